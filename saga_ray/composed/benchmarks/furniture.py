"""The furniture set that ships: the same piece repainted, or another one that the instruction singles out.

It lies in the package and needs no root: its pictures are unpacked once, under ``$SAGA_HOME/cache``. A
gallery is all pictures of a split, as the artist painted the models and repainted; the query's own reference
is never ranked, and a target is seen from another angle. No model, nor a variant of it, is in two splits.

Measures: recall@1, @5, @10, @50 of any target, over all queries and for each kind (`recolour`, `attribute`).
Renders of artists' models, not photographs.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq

from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.composed.benchmarks.triplets import measures
from saga_ray.config.home import home
from saga_ray.data import furniture

__all__ = ["measures", "read", "shipped_root"]

SPLITS = ("test", "validation", "train", "extra")
PROTOCOLS = ("standard",)
TABLES = (furniture.PARQUET, furniture.COMPOSED)


def shipped_root() -> Path:
    """The folder of the unpacked pictures, made if it is not there."""
    total = hashlib.sha256()
    for table in TABLES:
        with table.open("rb") as content:
            total.update(hashlib.file_digest(content, "sha256").digest())
    root = home() / "cache" / "furniture" / total.hexdigest()[:16]
    if not root.exists():
        root.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=root.parent, prefix=".unpacking-") as aside:
            unpacked = Path(aside) / "pictures"
            for id, _, image in _pictures():
                file = _file(unpacked, id)
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(image)
            try:
                os.rename(unpacked, root)
            except OSError:  # another process was quicker
                if not root.exists():
                    raise
                shutil.rmtree(unpacked, ignore_errors=True)
    return root


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """The triplets of a split over the pictures that `shipped_root` has unpacked."""
    own = tuple(Picture(id, str(_file(root, id))) for id, part, _ in _pictures() if part == split)
    gallery = Gallery(split, own)
    lines = [json.loads(line) for line in furniture.TRIPLETS.read_text(encoding="utf-8").splitlines()]
    queries = [
        Query(
            id=str(number),
            gallery=split,
            reference=own[gallery.rows[line["reference"]]],
            instructions=(line["instruction"],),
            targets=tuple(line["target"]),
            kind=line["kind"],
            left_out=(line["reference"],),
            annotation=line,
        )
        for number, line in enumerate(lines, 1)
        if line["split"] == split
    ]
    return Benchmark("furniture", split, protocol, {split: gallery}, tuple(queries), differs=(), counts={})


def _pictures() -> Iterator[tuple[str, str, bytes]]:
    """(id, split, JPEG) of every picture."""
    for table in TABLES:
        for row in pq.read_table(table, columns=["id", "split", "image"]).to_pylist():
            yield row["id"], row["split"], row["image"]


def _file(root: Path, id: str) -> Path:
    return root / f"{id}.jpg"
