"""A user's own data for composed retrieval: a folder of pictures with captions and triplets.

    captions.jsonl     {"image": "a.jpg", "caption": "a red chair"} a line; or captions.json, as LLaVA has it
    triplets.jsonl     {"reference": "a.jpg", "instruction": "in blue", "target_text": "a blue chair"} a line
    **/*.jpg, png, webp, bmp

Stage 1 needs captions, stage 2 triplets; see `saga_ray.composed.captions` and
`saga_ray.composed.benchmarks.triplets` for the forms. A triplet's own `reference_text`, else the reference's
caption, is the caption before the change. Lines of the splits train and extra, and those without one, train;
those of validation and test with a target picture are queries.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa

from saga_ray.composed.benchmarks import triplets as own
from saga_ray.composed.captions import Caption, read_captions
from saga_ray.composed.examples import Captioned, TrainingData, Triplet
from saga_ray.data.picture_column import PictureColumn
from saga_ray.errors import UserError

CAPTIONS = ("captions.jsonl", "captions.json")
TRAINED = ("", "train", "extra")
FEW = 3
"""Missing pictures that are named."""


def matches(source: str) -> bool:
    """Any folder with captions or triplets in it."""
    return any((Path(source).expanduser() / name).is_file() for name in (*CAPTIONS, own.FILE_NAME))


def read(location: str | None) -> TrainingData:
    """The lines to train on; no picture is opened, but each must be there. Raises UserError."""
    if location is None:
        raise UserError("data.source=folder is no source: give the folder itself")
    root = Path(location).expanduser().absolute()
    files = [root / file for file in CAPTIONS if (root / file).is_file()]
    captions = [caption for file in files for caption in read_captions(file)]
    file = root / own.FILE_NAME
    lines = [line for line in own.parse(file) if line.split in TRAINED] if file.is_file() else []
    names = {name: row for row, name in enumerate(_pictures(captions, lines))}
    missing = [name for name in names if not (root / name).is_file()]
    if missing:
        few = ", ".join(missing[:FEW]) + (", …" if len(missing) > FEW else "")
        raise UserError(
            f"{root}: {len(missing):,} of {len(names):,} pictures that captions and triplets name are not "
            f"there ({few}); put them there or correct their paths"
        )
    said = {_path(caption.image): caption.text for caption in captions}
    triplets = [
        Triplet(
            reference=names[line.reference],
            instruction=line.instruction,
            caption=str(line.entry.get("reference_text") or said.get(line.reference, "")).strip(),
            modified=line.target_text,
            targets=tuple(names[target] for target in line.targets),
            shows=line.reference,
            asks="|".join(line.targets),
        )
        for line in lines
    ]
    captioned = [Captioned(names[_path(caption.image)], caption.text) for caption in captions]
    sizes = [(name, (root / name).stat().st_size) for name in names]
    return TrainingData(
        name=root.name,
        pictures=PictureColumn(pa.array([str(root / name) for name in names], type=pa.large_string())),
        captioned=captioned,
        triplets=triplets,
        hash=hashlib.sha256(repr((sizes, captioned, triplets)).encode()).hexdigest(),
    )


def _pictures(captions: list[Caption], lines: list[own.Triplet]) -> list[str]:
    """All that are named, each once."""
    found = [_path(caption.image) for caption in captions]
    for line in lines:
        found += [line.reference, *line.targets]
    return list(dict.fromkeys(found))


def _path(name: str) -> str:
    return Path(name).as_posix()
