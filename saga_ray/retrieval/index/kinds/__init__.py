"""Kinds of index, one file each, found by listing this folder.

A file offers ``make(z_ME) -> Vectors``, empty but fit (trained, where that is needed) for embeddings such as
these, and ``load(folder) -> Vectors``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from saga_ray.config.names import modules_in
from saga_ray.errors import UserError
from saga_ray.retrieval.index.kinds.base import Vectors

__all__ = ["Vectors", "load", "make", "names"]


def names() -> list[str]:
    """The kinds that there are."""
    return modules_in("retrieval/index/kinds")


def make(kind: str, z_ME: NDArray[np.float32]) -> Vectors:
    """An empty index of this kind, trained on these embeddings where the kind needs that."""
    vectors: Vectors = _module(kind).make(z_ME)
    return vectors


def load(kind: str, folder: Path) -> Vectors:
    """What `Vectors.save` stored."""
    vectors: Vectors = _module(kind).load(folder)
    return vectors


def _module(kind: str) -> ModuleType:
    if kind not in names():
        raise UserError(f"there is no index of kind {kind!r}; choose from {', '.join(names())}")
    return importlib.import_module(f"{__name__}.{kind}")
