"""Sources of pictures: one file each, found by listing this folder.

A source is a module with

- ``rows(location: str | None) -> Rows``: what the data set holds, nothing opened yet. `location` is
  `data.root` where the source was asked for by its file's name, and `data.source` where `matches` knew it,
  with `~` put into full;
- ``matches(path: str) -> bool``, only if it reads a user's own path. Its `rows` then also takes
  ``labelled=False``: pictures need no label, and have an empty one where there is none.

Everything after that (broken pictures, split, hash) is the same for all sources: `saga_ray.data.table.build`.
"""

from __future__ import annotations

import difflib
import importlib
import os
from pathlib import Path
from types import ModuleType

from saga_ray.config.settings import DataSettings
from saga_ray.data.rows import Rows
from saga_ray.data.table import ImageTable, build
from saga_ray.data.utf8 import is_utf8, printable
from saga_ray.errors import UserError


def names() -> list[str]:
    """The sources' names, without importing them."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_"))


def read(settings: DataSettings, *, labelled: bool = True) -> Rows:
    """What the source that the settings name holds; no picture is opened."""
    if settings.source in names():
        root = settings.root and os.path.expanduser(settings.root)
        return _rows(_module(settings.source), root, labelled)
    path = os.path.expanduser(settings.source)
    for name in names():
        module = _module(name)
        if hasattr(module, "matches") and module.matches(path):
            return _rows(module, path, labelled)
    near = difflib.get_close_matches(settings.source, names(), n=1)
    raise UserError(
        f"data.source={settings.source!r} is neither a data set ({', '.join(names())}) nor an existing "
        f"folder nor a CSV, Parquet or JSONL table" + (f"; did you mean {near[0]}?" if near else "")
    )


def load(settings: DataSettings, seed: int, *, labelled: bool = True) -> ImageTable:
    """Read the source, open every picture once, leave out broken ones, split by class if need be. Not
    `labelled`: a user's own pictures need no labels."""
    return build(read(settings, labelled=labelled), settings, seed)


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{name}")


def _rows(module: ModuleType, location: str | None, labelled: bool) -> Rows:
    if location is not None and not is_utf8(os.path.abspath(location)):
        raise UserError(
            f"{printable(os.path.abspath(location))}: the path is not UTF-8; rename the file or folder"
        )
    unlabelled = {} if labelled or not hasattr(module, "matches") else {"labelled": False}
    rows = module.rows(location, **unlabelled)
    assert isinstance(rows, Rows)
    return rows
