"""Which queries, rollouts and pictures the page shows: chosen by rule, the same every time, not by taste."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.protocol import Protocol

T = TypeVar("T")


@dataclass(frozen=True)
class WonAndLost:
    """Places, among the queries, of those whose nearest neighbour is right under one of two arms alone."""

    won: list[int]
    """Shown: the challenger is right, the baseline wrong."""
    lost: list[int]
    won_of_all: int
    lost_of_all: int
    queries: int
    """Queries that have an answer at all: their class has a picture that they search."""


def won_and_lost(
    labels_M: NDArray[np.int64],
    protocol: Protocol,
    baseline_QK: NDArray[np.int64],
    challenger_QK: NDArray[np.int64],
    count: int,
) -> WonAndLost:
    """Compare two arms' nearest neighbours (row numbers, best first; row q is query q's) at rank 1.

    At most `count` of either kind are shown, one a class, spread evenly over the classes.
    """
    label_Q = labels_M[protocol.query_Q]
    assert len(label_Q) == len(baseline_QK) == len(challenger_QK)
    baseline_right_Q = labels_M[baseline_QK[:, 0]] == label_Q
    challenger_right_Q = labels_M[challenger_QK[:, 0]] == label_Q
    won = np.flatnonzero(challenger_right_Q & ~baseline_right_Q)
    lost = np.flatnonzero(baseline_right_Q & ~challenger_right_Q)
    return WonAndLost(
        won=_one_a_class(won, label_Q, count),
        lost=_one_a_class(lost, label_Q, count),
        won_of_all=len(won),
        lost_of_all=len(lost),
        queries=int((protocol.positives(labels_M) > 0).sum()),
    )


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced, in order; from the first to the last."""
    if len(items) <= count:
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]


def _one_a_class(places: NDArray[np.int64], label_Q: NDArray[np.int64], count: int) -> list[int]:
    """The first place of each class, by class; evenly spaced among these."""
    _, first = np.unique(label_Q[places], return_index=True)
    return spread([int(place) for place in places[first]], count)
