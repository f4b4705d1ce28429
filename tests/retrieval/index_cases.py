"""Small indexes for tests, and the search that they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saga_ray.retrieval.index import change
from saga_ray.retrieval.index.change import Embedded, Existing
from saga_ray.retrieval.index.rows import METADATA, SCHEMA
from saga_ray.retrieval.index.snapshot import Info

WIDTH = 8
ENCODER = "e" * 64


def unit(count: int, seed: int = 0, width: int = WIDTH, heaps: int | None = None) -> NDArray[np.float32]:
    """Embeddings of unit length: spread evenly, or in heaps as those of classes are."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(count, width))
    if heaps is not None:
        z = 0.6 * z + 2 * rng.normal(size=(heaps, width))[rng.integers(heaps, size=count)]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    return z.astype(np.float32)


def entries(ids: Sequence[str], labels: Sequence[str], **metadata: Sequence[str]) -> pa.Table:
    """Entries whose thumbnail is their id."""
    columns = {
        "id": ids,
        "label": labels,
        "image": [None] * len(ids),
        "thumbnail": [id.encode() for id in ids],
    }
    fields = [SCHEMA.field(name) for name in columns]
    for name, values in metadata.items():
        columns[METADATA + name] = values
        fields.append(pa.field(METADATA + name, pa.string()))
    return pa.table(columns, schema=pa.schema(fields))


def create(
    folder: Path, z_ME: NDArray[np.float32], table: pa.Table | None = None, *, kind: str = "flat"
) -> Info:
    """A new index; ids are `0`, `1`, … and labels `even` and `odd` by default."""
    if table is None:
        table = entries([str(m) for m in range(len(z_ME))], ["even", "odd"] * (len(z_ME) // 2))
    info = Info(
        kind=kind,
        size=len(z_ME),
        width=z_ME.shape[1],
        encoder_hash=ENCODER,
        model="nowhere",
        image_size=16,
        sources=["test"],
        next_key=0,
        effort=None,
    )
    return change.create(folder, info, (z_ME, table))


def add(
    folder: Path, z_ME: NDArray[np.float32], table: pa.Table, existing: Existing = "refuse"
) -> tuple[Info, int]:
    """Add rows whose embeddings are known."""
    return change.add(
        folder,
        table["id"].to_pylist(),
        embedded(z_ME, table),
        encoder_hash=ENCODER,
        source="more",
        existing=existing,
    )


def embedded(z_ME: NDArray[np.float32], table: pa.Table) -> Callable[[Sequence[int]], Embedded]:
    """Stands for an encoder."""
    return lambda places: (z_ME[list(places)], table.take(pa.array(list(places))))


def naive(z_E: NDArray[np.float32], rows: dict[str, NDArray[np.float32]], k: int) -> list[tuple[float, str]]:
    """Scores and ids of the k nearest rows, best first, one inner product after the other."""
    return sorted(((float(z_E @ row_E), id) for id, row_E in rows.items()), reverse=True)[:k]
