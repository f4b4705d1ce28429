"""A user's own pictures: one folder for each class.

``root/<class>/**/*.jpg`` (png, webp, bmp too), or ``root/<split>/<class>/**`` where the folders at the top
are called train, validation (val), extra, test and nothing else. Hidden files and folders are left alone;
files with other endings too, but they are counted.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from saga_ray.data.rows import SPELLINGS, Rows
from saga_ray.data.utf8 import printable
from saga_ray.errors import UserError

EXTENSIONS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


def matches(path: str) -> bool:
    """Any folder."""
    return Path(path).is_dir()


def rows(location: str | None, *, labelled: bool = True) -> Rows:
    """List the pictures in the order of their paths; those outside a class's folder are left alone, or, where
    they need not be `labelled`, have an empty label.
    """
    if location is None:
        raise UserError("data.source=folder needs data.root, the folder that holds one folder for each class")
    root = Path(location)
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder")
    tops = [folder.name for folder in _folders(root)]
    split_at_top = bool(tops) and all(top.lower() in SPELLINGS for top in tops)
    classes = [folder for top in tops for folder in _folders(root / top)] if split_at_top else _folders(root)
    files = [(folder.name, file) for folder in classes for file in _files_in(folder)]
    if not labelled:
        within = {file for _, file in files}
        files += [("", file) for file in _files_in(root) if file not in within]
        files.sort(key=lambda each: each[1])
        split_at_top = split_at_top and all(file.parent != root for _, file in files)
    pictures = [(label, file) for label, file in files if _is_picture(file)]
    if not pictures:
        raise UserError(
            f"{root}: there are no pictures ({', '.join(sorted(EXTENSIONS))})"
            + (" in folders, one folder a class" if labelled else "")
        )
    parts = [picture.relative_to(root).parts for _, picture in pictures]
    others = Counter(printable(file.suffix.lower()) for _, file in files if not _is_picture(file))
    splits = [SPELLINGS[part[0].lower()] for part in parts] if split_at_top else None
    return Rows(
        name=printable(root.resolve().name),
        images=[str(picture.absolute()) for _, picture in pictures],
        where=[printable("/".join(part)) for part in parts],
        labels=[printable(label) for label, _ in pictures],
        splits=splits,
        left_out=dict(others.most_common()),
    )


def pictures_in(folder: Path) -> list[Path]:
    """All pictures below a folder, in the order of their paths; hidden files and folders are left alone."""
    return [file for file in _files_in(folder) if _is_picture(file)]


def _files_in(folder: Path) -> list[Path]:
    found: list[Path] = []
    for parent, below, files in os.walk(folder, followlinks=True):
        below[:] = sorted(name for name in below if not name.startswith("."))
        # macOS leaves `._name.jpg` beside `name.jpg`: they start with a dot too
        found += [Path(parent) / name for name in files if not name.startswith(".")]
    return sorted(found)


def _is_picture(file: Path) -> bool:
    return file.suffix.lower() in EXTENSIONS


def _folders(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
