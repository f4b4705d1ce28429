"""The pairs of a micro-batch: in every block half of one class and half of two, none twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np

from saga_ray.config.settings import DataSettings

Positions = tuple[int, int]
T = TypeVar("T")


@dataclass(frozen=True)
class PlannedPair:
    """Two pictures of a micro-batch whose verdict is asked for, in the order of the prompt."""

    index: int
    """Position in the micro-batch's pair list."""
    a: int
    """Position in the micro-batch's picture list; `b` too."""
    b: int
    same: bool
    block: int


def draw_pairs(
    labels: Sequence[int], settings: DataSettings, hard_groups: Sequence[str] | None, rng: np.random.Generator
) -> tuple[tuple[PlannedPair, ...], int]:
    """Pairs in plan order, and how many hard ones were missing.

    `labels` are the pictures' classes, block by block and class by class. Plan order goes round the blocks,
    and same and different take turns within each and between neighbours.
    """
    blocks = settings.blocks
    size = len(labels) // blocks
    half = settings.pairs_per_batch // (2 * blocks)
    queues: list[tuple[list[Positions], list[Positions]]] = []
    missing = 0
    for block in range(blocks):
        positions = range(block * size, (block + 1) * size)
        different, not_found = _different(
            positions, labels, half, settings.hard_negative_share, hard_groups, rng
        )
        queues.append((_same(positions, settings.images_per_class, half, rng), different))
        missing += not_found
    pairs: list[PlannedPair] = []
    for turn in range(2 * half):
        for block in range(blocks):
            same = (turn + block) % 2 == 0
            a, b = queues[block][0 if same else 1].pop()
            if rng.random() < 0.5:
                a, b = b, a
            pairs.append(PlannedPair(len(pairs), a, b, same, block))
    return tuple(pairs), missing


def _same(positions: range, per_class: int, count: int, rng: np.random.Generator) -> list[Positions]:
    """`count` pairs of one class: every class gives one before any gives a second."""
    own = [positions[start : start + per_class] for start in range(0, len(positions), per_class)]
    shuffled = [_shuffled(list(combinations(pictures, 2)), rng) for pictures in _shuffled(own, rng)]
    by_turn = [pair for turn in zip(*shuffled, strict=True) for pair in turn]
    return by_turn[:count]


def _different(
    positions: range,
    labels: Sequence[int],
    count: int,
    hard_share: float,
    hard_groups: Sequence[str] | None,
    rng: np.random.Generator,
) -> tuple[list[Positions], int]:
    """`count` pairs of two classes, round(count x hard_share) of them hard as far as such pairs exist."""
    candidates = _shuffled([(a, b) for a, b in combinations(positions, 2) if labels[a] != labels[b]], rng)
    if hard_groups is None:
        return candidates[:count], 0

    def is_hard(pair: Positions) -> bool:
        group, other = (hard_groups[labels[position]] for position in pair)
        return group == other != ""

    wanted = round(count * hard_share)
    hard = [pair for pair in candidates if is_hard(pair)][:wanted]
    chosen = set(hard)
    others = [pair for pair in candidates if pair not in chosen][: count - len(hard)]
    return _shuffled(hard + others, rng), wanted - len(hard)


def _shuffled(items: Sequence[T], rng: np.random.Generator) -> list[T]:
    return [items[index] for index in rng.permutation(len(items))]
