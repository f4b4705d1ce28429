"""Which queries, rollouts and pictures the page shows: chosen by rule, the same every time, not by taste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class WonAndLost:
    """Rows of queries whose nearest neighbour is right under one of two arms alone."""

    won: list[int]
    """Shown: the challenger is right, the baseline wrong."""
    lost: list[int]
    won_of_all: int
    lost_of_all: int
    queries: int
    """Queries that have an answer at all: their class has another picture."""


def won_and_lost(
    labels_M: NDArray[np.int64], baseline_MK: NDArray[np.int64], challenger_MK: NDArray[np.int64], count: int
) -> WonAndLost:
    """Compare two arms' nearest neighbours (gallery row numbers, best first; row m is query m's) at rank 1.

    At most `count` of either kind are shown, one a class, spread evenly over the classes.
    """
    assert len(labels_M) == len(baseline_MK) == len(challenger_MK)
    baseline_right_M = labels_M[baseline_MK[:, 0]] == labels_M
    challenger_right_M = labels_M[challenger_MK[:, 0]] == labels_M
    won = np.flatnonzero(challenger_right_M & ~baseline_right_M)
    lost = np.flatnonzero(baseline_right_M & ~challenger_right_M)
    _, class_M, pictures_C = np.unique(labels_M, return_inverse=True, return_counts=True)
    return WonAndLost(
        won=_one_a_class(won, labels_M, count),
        lost=_one_a_class(lost, labels_M, count),
        won_of_all=len(won),
        lost_of_all=len(lost),
        queries=int((pictures_C[class_M] > 1).sum()),
    )


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced, in order; from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _one_a_class(rows: NDArray[np.int64], labels_M: NDArray[np.int64], count: int) -> list[int]:
    """The first row of each class, by class; evenly spaced among these."""
    _, first = np.unique(labels_M[rows], return_index=True)
    return spread([int(row) for row in rows[first]], count)
