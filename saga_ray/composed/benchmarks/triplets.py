"""A user's own triplets over a folder of pictures.

    triplets.jsonl     {"reference": "a.jpg", "instruction": "in red", "target": "b.jpg"} a line
    **/*.jpg, png, webp, bmp

The root is the folder that holds `triplets.jsonl`, or a JSONL file of another name; pictures are named by
their path from that file's folder. A line's `target` is a picture or a list of pictures that are all right;
`target_text` says in words what the target shows, and trains without a target picture, but cannot be
evaluated. Optional: `kind`, for which measures are given apart, and `split`. All other keys are left alone.

The gallery is every picture in the folder less the query's own reference, which would all but always come
first. The split `all` takes every line, another one the lines that name it.

Measures: recall@1, @5, @10, @50 of any target, over all queries; then for each kind, if kinds are named.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saga_ray.composed.benchmarks.base.measures import Pairs, by_kind, recalls
from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.data import rows
from saga_ray.data.release import Entry
from saga_ray.data.sources.folder import pictures_in
from saga_ray.errors import UserError

SPLITS = ("all", *rows.SPLITS)
PROTOCOLS = ("standard",)
FILE_NAME = "triplets.jsonl"
GALLERY = "all"
KS = (1, 5, 10, 50)
FEW = 3
"""Pictures that a sentence about missing ones names."""


@dataclass(frozen=True)
class Triplet:
    """One line. `targets` or `target_text` may be empty, not both."""

    line: int
    reference: str
    instruction: str
    targets: tuple[str, ...]
    target_text: str
    kind: str
    """Empty where the line names none."""
    split: str
    """Empty where the line names none."""
    entry: Entry = field(compare=False, repr=False)


def file_of(root: Path) -> Path:
    """The JSONL file of a root. Raises UserError where there is none."""
    file = root / FILE_NAME if root.is_dir() else root
    if not file.is_file() or file.suffix != ".jsonl":
        raise UserError(
            f"{root}: there are no triplets; give --root a JSONL file, or a folder with {FILE_NAME} in it"
        )
    return file


def parse(file: Path) -> list[Triplet]:
    """All lines, for training and evaluation alike; no picture is looked for.

    Raises UserError, with the line's number, for what is no triplet.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot be read as text: {error}") from error
    found = [_triplet(file, number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if not found:
        raise UserError(f"{file}: has no lines; write one JSON object a triplet")
    return found


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """The triplets of a split. Raises UserError for bad lines and for pictures that are not there."""
    file = file_of(root)
    folder = file.parent
    triplets = [triplet for triplet in parse(file) if split in ("all", triplet.split)]
    if not triplets:
        raise UserError(f"{file}: no line has the split {split!r}; take the split 'all' or name it in lines")
    without = [triplet.line for triplet in triplets if not triplet.targets]
    if without:
        raise UserError(
            f"{file}: {len(without)} of {len(triplets)} triplets, the first in line {without[0]}, have only "
            "`target_text`, which trains but cannot be evaluated; name a `target` picture or take them out"
        )
    gallery = Gallery(
        GALLERY,
        tuple(Picture(path.relative_to(folder).as_posix(), str(path)) for path in pictures_in(folder)),
    )
    _require_pictures(file, triplets, gallery)
    queries = [
        Query(
            id=str(triplet.line),
            gallery=GALLERY,
            reference=gallery.pictures[gallery.rows[triplet.reference]],
            instructions=(triplet.instruction,),
            targets=triplet.targets,
            kind=triplet.kind,
            left_out=(triplet.reference,),
            annotation=triplet.entry,
        )
        for triplet in triplets
    ]
    return Benchmark("triplets", split, protocol, {GALLERY: gallery}, tuple(queries), differs=(), counts={})


def measures(pairs: Pairs) -> dict[str, float]:
    """recall@1, @5, @10, @50 over all queries, then for each kind that is named."""
    return recalls(pairs, KS) | {
        f"{name}/{kind}": value
        for kind, own in by_kind(pairs).items()
        if kind
        for name, value in recalls(own, KS).items()
    }


def _triplet(file: Path, number: int, line: str) -> Triplet:
    where = f"{file} line {number}"
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise UserError(f'{where}: is no JSON object; write {{"reference": …, "instruction": …, …}}')
    targets = _targets(entry.get("target"), where)
    triplet = Triplet(
        line=number,
        reference=_picture(_text(entry, "reference", where)),
        instruction=_text(entry, "instruction", where),
        targets=targets,
        target_text=_text(entry, "target_text", where) if entry.get("target_text") is not None else "",
        kind=_text(entry, "kind", where) if entry.get("kind") is not None else "",
        split=rows.split_name(_text(entry, "split", where), where) if entry.get("split") is not None else "",
        entry=entry,
    )
    if not triplet.targets and not triplet.target_text:
        raise UserError(f"{where}: has neither `target` nor `target_text`; say what the answer is")
    if triplet.reference in triplet.targets:
        raise UserError(
            f"{where}: the reference {triplet.reference} is its own target; it is never ranked, name another"
        )
    return triplet


def _text(entry: Entry, name: str, where: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{where}: `{name}` is {_shown(value)}; write some text")
    return value.strip()


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    return "blank" if isinstance(value, str) else f"{value!r} and no text"


def _targets(value: Any, where: str) -> tuple[str, ...]:
    if value is None:
        return ()
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(each, str) and each.strip() for each in several):
        raise UserError(f"{where}: `target` is {value!r}; write a picture's path or a list of paths")
    return tuple(dict.fromkeys(map(_picture, several)))


def _picture(name: str) -> str:
    """A path as the gallery has it: "./a.jpg" is "a.jpg"."""
    return Path(name.strip()).as_posix()


def _require_pictures(file: Path, triplets: Sequence[Triplet], gallery: Gallery) -> None:
    missing: dict[str, int] = {}
    for triplet in triplets:
        for picture in (triplet.reference, *triplet.targets):
            if picture not in gallery.rows:
                missing.setdefault(picture, triplet.line)
    if missing:
        few = ", ".join(f"{picture} in line {line}" for picture, line in list(missing.items())[:FEW])
        more = ", …" if len(missing) > FEW else ""
        raise UserError(
            f"{file}: {len(missing):,} pictures are not in {file.parent} ({few}{more}); "
            "put them there or correct their paths"
        )
