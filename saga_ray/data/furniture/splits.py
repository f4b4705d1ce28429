"""Which part of the set a model belongs to: decided by a hash of its path, together with all its variants.

`train`: classes that retrieval learns from; `extra`: classes whose pictures and attributes only the
supervisor may learn from; `validation`: where choices are made; `test`: looked at last.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

SHARES = (("test", 0.525), ("validation", 0.07), ("train", 0.2), ("extra", 0.205))
"""Parts and their shares of all models, in the order in which they cut the hash's range."""
SALT = "furniture"


def unit_hash(path: str) -> float:
    """A number in [0, 1) that depends on the path alone."""
    digest = hashlib.sha256(f"{SALT}:{path}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def split_of(path: str) -> str:
    """The part in which the model with this path lies if it has no variants."""
    value = unit_hash(path)
    for name, share in SHARES:
        value -= share
        if value < 0:
            return name
    return SHARES[-1][0]


def assign_splits(paths: Sequence[str], groups: Sequence[int]) -> list[str]:
    """The part of each model; models of one group share the part of the group's first path in alphabetical
    order.
    """
    first: dict[int, str] = {}
    for path, group in zip(paths, groups, strict=True):
        first[group] = min(path, first.get(group, path))
    return [split_of(first[group]) for group in groups]
