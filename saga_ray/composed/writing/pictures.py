"""What a table's pictures are called in a file of triplets beside which, or below which, they lie."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from saga_ray.data.pictures import is_address
from saga_ray.data.rows import Rows
from saga_ray.errors import UserError

FOLDER = "pictures"
ID = "id"
ENDINGS = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"RIFF", ".webp"), (b"BM", ".bmp"))


def names(rows: Rows, folder: Path) -> list[str]:
    """A name each: a picture's path from `folder` where it lies below it, else its absolute path; for one
    that the table itself holds, where `write_held` puts it, by the column `id` or the row's number.

    Raises:
        UserError: a row has no picture, one at an address, or one of an unknown kind; an `id` is no name.
    """
    return [_name(rows, row, folder) for row in range(len(rows.images))]


def write_held(rows: Rows, named: list[str], folder: Path) -> int:
    """Write the pictures that the table itself holds below `folder`, whose part `pictures` appears when it is
    whole; returns how many they are.

    Raises:
        UserError: `pictures` exists in the folder already.
    """
    held = [(name, image) for name, image in zip(named, rows.images, strict=True) if isinstance(image, bytes)]
    if not held:
        return 0
    place = folder / FOLDER
    if place.exists():
        raise UserError(
            f"{place} exists, and the table's pictures would go there; name another --output folder"
        )
    aside = folder / f".{FOLDER}.part"  # hidden: no reader of the folder sees it
    shutil.rmtree(aside, ignore_errors=True)
    try:
        for name, content in held:
            file = aside / Path(name).relative_to(FOLDER)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        os.replace(aside, place)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return len(held)


def _name(rows: Rows, row: int, folder: Path) -> str:
    image, where = rows.images[row], rows.where[row]
    if not image:
        raise UserError(f"{where}: has no picture; take the row out")
    if isinstance(image, str):
        if is_address(image):
            raise UserError(f"{where}: a triplet names a file and {image} is an address; copy the pictures")
        path = Path(os.path.abspath(image))  # without its `..`, and without following links
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.as_posix()
    ending = next((ending for start, ending in ENDINGS if image.startswith(start)), None)
    if ending is None:
        raise UserError(f"{where}: the picture is neither JPEG, PNG, WebP nor BMP; convert it")
    name = rows.attributes[ID][row] if ID in rows.attributes else f"{row + 1:07}"
    steps = name.split("/")
    if any(step in ("", ".", "..") or step.startswith(".") or "\0" in step for step in steps):
        raise UserError(f"{where}: the id {name!r} is no file's name")
    return f"{FOLDER}/{name}{ending}"
