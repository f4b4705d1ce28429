"""A data set in memory: one row a picture, with its path or its encoded bytes, never its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saga_ray.config.settings import DataSettings
from saga_ray.data.decoding import Pixels, centre_square
from saga_ray.data.examine import Examined, examine
from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.pictures import Source, read_bytes
from saga_ray.data.rows import SPLITS, Rows
from saga_ray.data.splits import assign
from saga_ray.errors import UserError


@dataclass(frozen=True)
class SkippedImage:
    """A picture that was left out, and why."""

    where: str
    why: str


@dataclass(frozen=True, eq=False)
class ImageTable:
    """Every list and array has one entry a row, in the source's order. Made by `sources.load`."""

    name: str
    images: PictureColumn
    where: list[str]
    labels: NDArray[np.int64]
    """Index into `classes`."""
    classes: list[str]
    split: NDArray[np.str_]
    attributes: dict[str, list[str]]
    """Column -> value of each row; empty where unknown."""
    skipped: list[SkippedImage]
    """Broken pictures of the whole data set, which no row stands for."""
    split_seed: int | None
    """Seed of the class-disjoint split; None where the data set has a split of its own."""
    hash: str
    """SHA-256 over the bytes of all pictures, labels and splits of the whole data set; a part keeps it."""
    differs: tuple[str, ...] = ()
    """How the data set differs from its official release, a sentence each; a part keeps them."""
    role_column: str | None = None
    """The attribute that tells queries from the gallery that they search; none: there is no such gallery."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def roles(self) -> list[str] | None:
        """Of each picture `query`, `gallery` or nothing, where the data set has a gallery of its own."""
        return None if self.role_column is None else self.attributes[self.role_column]

    def part(self, *splits: str) -> ImageTable:
        """The rows of these splits; classes are numbered anew from 0, in their old order."""
        assert set(splits) <= set(SPLITS), f"{splits} are not all splits"
        kept = np.isin(self.split, splits)
        present, labels = np.unique(self.labels[kept], return_inverse=True)
        rows = np.flatnonzero(kept)
        return replace(
            self,
            images=self.images.take(rows.tolist()),
            where=[self.where[row] for row in rows],
            labels=labels.astype(np.int64),
            classes=[self.classes[label] for label in present],
            split=self.split[kept],
            attributes={name: [column[row] for row in rows] for name, column in self.attributes.items()},
        )

    def read_image(self, row: int, size: int) -> Pixels:
        """A row's picture as it is at test time: its centred square at `size` pixels; uint8, HWC, RGB."""
        return centre_square(self.images.decode(row, size), size)


def build(rows: Rows, settings: DataSettings, seed: int) -> ImageTable:
    """Check every picture, leave out the broken ones, split and number the classes (in alphabetical order).

    Raises UserError for an empty data set, and for more broken pictures than `settings.max_broken_share`.
    """
    if not rows.images:
        raise UserError(f"{rows.name}: there are no pictures")
    examined = examine(rows.images, banner=rows.banner)
    whole = [row for row, result in enumerate(examined) if result.problem is None]
    skipped = [
        SkippedImage(rows.where[row], result.problem) for row, result in enumerate(examined) if result.problem
    ]
    _refuse_if_broken(rows, skipped, settings.max_broken_share)
    splits = assign(rows, settings, seed)
    names = [rows.labels[row] for row in whole]
    classes = sorted(set(names))
    number = {name: index for index, name in enumerate(classes)}
    kept_splits = [splits[row] for row in whole]
    return ImageTable(
        name=rows.name,
        images=PictureColumn(_sources([rows.images[row] for row in whole]), rows.banner),
        where=[rows.where[row] for row in whole],
        labels=np.array([number[name] for name in names], dtype=np.int64),
        classes=classes,
        split=np.array(kept_splits, dtype=np.str_),
        attributes={name: [column[row] for row in whole] for name, column in rows.attributes.items()},
        skipped=skipped,
        split_seed=seed if rows.splits is None else None,
        hash=_hash([examined[row] for row in whole], names, kept_splits),
        differs=rows.differs,
        role_column=rows.role_column,
    )


def _refuse_if_broken(rows: Rows, skipped: list[SkippedImage], most: float) -> None:
    total = len(rows.images)
    if len(skipped) < total and len(skipped) <= most * total:
        return
    limit = f", more than data.max_broken_share={most:g} allows" if len(skipped) < total else ""
    raise UserError(
        f"{rows.name}: {len(skipped)} of {total} pictures are missing or broken{limit}; "
        f"the first is {skipped[0].where}: {skipped[0].why}; `saga data check` lists them"
    )


def _sources(images: Sequence[Source]) -> pa.Array:
    if all(isinstance(image, str) for image in images):
        return pa.array(images, type=pa.large_string())
    # a column that mixes paths and bytes becomes bytes: one type, and the data set no longer depends on the
    # files
    return pa.array([read_bytes(image) for image in images], type=pa.large_binary())


def _hash(examined: Sequence[Examined], labels: Sequence[str], splits: Sequence[str]) -> str:
    total = hashlib.sha256()
    for picture, label, split in zip(examined, labels, splits, strict=True):
        total.update(f"{picture.digest}\t{label}\t{split}\n".encode())
    return total.hexdigest()
