"""The furniture set, and as further `extra` classes its `extra` models repainted in another colour.

For training a supervisor: a chair in red and the same chair in blue are of two classes, so it learns to look
at colour apart from form. Training, validation and test pictures are those of `furniture`.
"""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq

from saga_ray.data import furniture
from saga_ray.data.rows import Rows
from saga_ray.data.sources import furniture as plain

SPLIT = "extra"


def rows(location: str | None) -> Rows:
    """The rows of `furniture`, then those of its repainted `extra` models; it lies in the package, so
    `location` is not asked for.

    A repainted model has its model's attributes but for `colour`.
    """
    whole = plain.rows(location)
    painted = [row for row in pq.read_table(furniture.COMPOSED).to_pylist() if row["split"] == SPLIT]
    first = {label: row for row, label in reversed(list(enumerate(whole.labels)))}
    attributes = {}
    for name in furniture.ATTRIBUTES:
        column = whole.attributes[name]
        own = [row["colour"] if name == "colour" else column[first[row["label"]]] for row in painted]
        attributes[name] = [*column, *own]
    return replace(
        whole,
        name="furniture_repainted",
        images=[*whole.images, *(row["image"] for row in painted)],
        where=[*whole.where, *(f"{furniture.COMPOSED.name} {row['id']}" for row in painted)],
        labels=[*whole.labels, *(f"{row['label']}/{row['colour']}" for row in painted)],
        splits=[*(whole.splits or ()), *(SPLIT for _ in painted)],
        attributes=attributes,
    )
