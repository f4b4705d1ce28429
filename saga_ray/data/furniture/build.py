"""Build the furniture files from the Debian package: `python -m saga_ray.data.furniture.build --deb PATH
--output DIR`.

The package is `sweethome3d-furniture_1.8-1_all.deb` (from a Debian mirror or snapshot.debian.org). Needs
the `build` extra (VTK) and, on a machine without a display, Mesa's software OpenGL: on Debian `apt install
libegl1 libgl1-mesa-dri` (or `libosmesa6`). The same package gives the same rows; pixels may differ between
versions of VTK and Mesa.

Writes `furniture.parquet`, `composed.parquet`, `triplets.jsonl` and `ATTRIBUTION.md`; prints the counts, and
every model that could not be drawn.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from saga_ray.data.furniture import ATTRIBUTES, COMPOSED, PARQUET, TRIPLETS
from saga_ray.data.furniture.attributes import attributes
from saga_ray.data.furniture.catalogue import LIBRARIES, Item, read_catalogues, unpack
from saga_ray.data.furniture.licences import Provenance, provenance
from saga_ray.data.furniture.looks import Shots
from saga_ray.data.furniture.shoot import shoot
from saga_ray.data.furniture.splits import assign_splits
from saga_ray.data.furniture.tables import attribution, picture_rows, write_table, write_text
from saga_ray.data.furniture.triplets import make_triplets
from saga_ray.data.furniture.variants import variant_groups
from saga_ray.errors import UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """Build all files; returns the exit code."""
    parser = argparse.ArgumentParser(
        description="Render the furniture set from Debian's sweethome3d-furniture package."
    )
    parser.add_argument("--deb", type=Path, required=True, help="sweethome3d-furniture_1.8-1_all.deb")
    parser.add_argument("--output", type=Path, required=True, help="folder for the files")
    parser.add_argument("--jobs", type=int, default=2, help="processes that render (2)")
    options = parser.parse_args(arguments)
    try:
        with tempfile.TemporaryDirectory() as folder:
            unpack(options.deb, Path(folder))
            options.output.mkdir(parents=True, exist_ok=True)
            build(Path(folder), options.output, options.jobs)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def build(libraries: Path, output: Path, jobs: int) -> None:
    """Build all files from the unpacked `.sh3f` libraries."""
    start = time.monotonic()
    items = read_catalogues(libraries)
    shots, failures = shoot_all(items, libraries, jobs)
    shots.sort(key=lambda s: s.item.label)
    splits, groups = parts(shots)
    origins = read_provenance([s.item for s in shots], libraries)
    rows = main_rows(shots, splits, groups, origins)
    repainted = repainted_rows(shots, splits)
    triplets = make_triplets(rows, repainted)
    write_table(rows, output / PARQUET.name)
    write_table(repainted, output / COMPOSED.name)
    write_text("".join(json.dumps(triplet) + "\n" for triplet in triplets), output / TRIPLETS.name)
    write_text(attribution([s.item for s in shots], origins), output / "ATTRIBUTION.md")
    report(rows, failures)
    models = len({row["label"] for row in repainted})
    print(f"{len(repainted)} pictures of {models} repainted models")
    print(f"triplets: {dict(Counter((triplet['split'], triplet['kind']) for triplet in triplets))}")
    print(f"{time.monotonic() - start:.0f} s")


def shoot_all(items: Sequence[Item], libraries: Path, jobs: int) -> tuple[list[Shots], dict[str, str]]:
    """Shoot every model; those that fail are returned by label with the reason."""
    results = list(in_processes(partial(_try_to_shoot, libraries), items, jobs))
    failures = {
        item.label: result for item, result in zip(items, results, strict=True) if isinstance(result, str)
    }
    return [result for result in results if isinstance(result, Shots)], failures


def _try_to_shoot(libraries: Path, item: Item) -> Shots | str:
    try:
        return shoot(item, libraries)
    except (ValueError, KeyError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def in_processes(task: Callable[[Any], Any], jobs_of_work: Sequence[Any], jobs: int) -> Iterator[Any]:
    """Map in order over `jobs` fresh processes, one OpenGL window each."""
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap(task, jobs_of_work, chunksize=4)


def parts(shots: Sequence[Shots]) -> tuple[list[str], list[str]]:
    """Split and name of the variant group (its first model's label) of each model."""
    groups = variant_groups(shots)
    return assign_splits([s.item.path for s in shots], groups), [shots[g].item.label for g in groups]


def read_provenance(items: Sequence[Item], libraries: Path) -> dict[str, Provenance]:
    """Licence and source of each model, by label."""
    archives = {library: zipfile.ZipFile(libraries / f"{library}.sh3f") for library in LIBRARIES}
    try:
        return {item.label: provenance(archives[item.library], item) for item in items}
    finally:
        for archive in archives.values():
            archive.close()


def main_rows(
    shots: Sequence[Shots], splits: Sequence[str], groups: Sequence[str], origins: dict[str, Provenance]
) -> list[dict[str, Any]]:
    """The rows of `furniture.parquet`, by label and view."""
    return [
        row
        for s, split, group in zip(shots, splits, groups, strict=True)
        for row in picture_rows(s.item, s.jpegs, split, group, origins[s.item.label].licence, attributes(s))
    ]


def repainted_rows(shots: Sequence[Shots], splits: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of `composed.parquet`, by label; `label` is the model's own, `colour` the new paint."""
    return [
        {
            "id": f"{s.item.label}/{repaint.colour}/{repaint.view}",
            "image": repaint.jpeg,
            "label": s.item.label,
            "split": split,
            "view": repaint.view,
            "colour": repaint.colour,
        }
        for s, split in zip(shots, splits, strict=True)
        for repaint in s.repaints
    ]


def report(rows: Sequence[dict[str, Any]], failures: dict[str, str]) -> None:
    """Print what was built."""
    firsts = [row for row in rows if row["view"] == 0]
    print(f"{len(firsts)} models, {len(rows)} pictures, {len(failures)} failures")
    for label, reason in failures.items():
        print(f"  not drawn: {label}: {reason}")
    for column in ("split", *ATTRIBUTES, "size", "licence"):
        print(f"{column}: {dict(Counter(row[column] for row in firsts).most_common())}")


if __name__ == "__main__":
    sys.exit(main())
