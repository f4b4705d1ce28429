"""Hard negatives: classes that agree on an attribute must meet in a block, or no hard pair of them can be
made.

Classes are joined in twos of one group, and twos are kept together while an epoch is cut into micro-batches
and a micro-batch into blocks. Two and no more: larger gatherings would turn micro-batches into single groups,
and the metric loss would never see easy negatives. `groups` holds the attribute's value for every class;
empty: no group.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Sequence

import numpy as np


def join_twos(order: Sequence[int], groups: Sequence[str]) -> list[list[int]]:
    """Classes in order, each bringing along the next one of its group that no other has brought along."""
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for label in order:
        waiting[groups[label]].append(label)
    units: list[list[int]] = []
    placed: set[int] = set()
    for label in order:
        if label in placed:
            continue
        group = waiting[groups[label]]
        unit = [group.popleft()]
        if groups[label] and group:
            unit.append(group.popleft())
            placed.add(unit[1])
        units.append(unit)
    return units


def gather(order: Sequence[int], groups: Sequence[str], rng: np.random.Generator) -> list[int]:
    """An epoch's classes with twos side by side, spread over the whole epoch."""
    units = join_twos(order, groups)
    return [label for index in rng.permutation(len(units)) for label in units[index]]


def deal(chosen: Sequence[int], groups: Sequence[str], blocks: int) -> list[int]:
    """A micro-batch's classes, block by block: twos go round the blocks first, lone classes fill them up."""
    size = len(chosen) // blocks
    dealt: list[list[int]] = [[] for _ in range(blocks)]
    for unit in sorted(join_twos(chosen, groups), key=len, reverse=True):
        emptiest = min(dealt, key=len)
        if len(emptiest) + len(unit) <= size:
            emptiest += unit
        else:
            # blocks of an odd number of classes part the last twos
            for label in unit:
                min(dealt, key=len).append(label)
    return [label for block in dealt for label in block]
