"""Class-disjoint splits: retrieval is tested on classes that no training saw."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from saga_ray.config.settings import DataSettings
from saga_ray.data.rows import Rows
from saga_ray.errors import UserError


def split_classes(
    classes: Iterable[str], test_share: float, validation_share: float, seed: int
) -> dict[str, str]:
    """Give every class to train, validation or test.

    Classes are ordered by a hash of (seed, class), so that the split does not depend on their order, and a
    class that is added later moves few of the others. The first `test_share` go to test (at least one, unless
    the share is 0), `validation_share` of what remains to validation; at least one class stays in train.
    """
    ordered = sorted(set(classes), key=lambda name: hashlib.sha256(f"{seed}:{name}".encode()).digest())
    tests = _count(len(ordered), test_share, least=1)
    validations = _count(len(ordered) - tests, validation_share, least=0)
    names = ["test"] * tests + ["validation"] * validations
    names += ["train"] * (len(ordered) - len(names))
    return dict(zip(ordered, names, strict=True))


def _count(total: int, share: float, least: int) -> int:
    return max(0, min(total - 1, max(least if share > 0 else 0, round(total * share))))


def indivisible(rows: Rows, settings: DataSettings) -> str:
    """Why the classes cannot be split; empty where they can, or where the data has a split of its own."""
    if rows.splits is None and settings.test_share > 0 and len(set(rows.labels)) == 1:
        only = rows.labels[0]
        return f"all pictures are of one class, {only!r}; at least two are needed, one of them for test"
    return ""


def assign(rows: Rows, settings: DataSettings, seed: int) -> list[str]:
    """The split of every row: the data's own, else a class-disjoint one by the seed."""
    if rows.splits is not None:
        return rows.splits
    if why := indivisible(rows, settings):
        raise UserError(f"{rows.name}: {why}")
    part = split_classes(rows.labels, settings.test_share, settings.validation_share, seed)
    return [part[label] for label in rows.labels]
