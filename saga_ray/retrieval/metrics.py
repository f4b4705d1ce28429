"""Retrieval metrics over ranked ids and labels; where the ranks come from is none of their business.

Judge the ranking once (`judge`), then ask for numbers:

    recall@k     share of queries with an item of their class among the k nearest
    r_precision  share of the class among the R nearest
    map@r        1/R sum_{i<=R} precision(i) relevant(i)
    map          1/R sum_i precision(i) relevant(i), over the whole ranking

R is the number of the class's other items; map@r is that of "A Metric Learning Reality Check" (2020).

All are means over queries, in [0, 1]. A query whose class has no other item cannot be answered: it is left
out and counted. Ties are the ranking's affair: `search.nearest` never lets the order of the gallery decide
them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Judged:
    """A ranking with each place judged, for the queries that can be answered (Q queries, K places)."""

    relevant_QK: NDArray[np.bool_]  # the place holds an item of the query's class
    positives_Q: NDArray[np.int64]  # R: the class's items in the gallery less the query itself; 1 or more
    candidates: int  # items that a whole ranking would hold
    left_out: int  # queries that cannot be answered

    @property
    def queries(self) -> int:
        """How many queries count."""
        return len(self.positives_Q)


def judge(
    neighbour_QK: ArrayLike,
    query_label_Q: ArrayLike,
    gallery_label_M: ArrayLike,
    *,
    own_Q: ArrayLike | None = None,
) -> Judged:
    """Judge ranked gallery rows, best first.

    `own_Q` is the gallery row of each query itself where queries are part of the gallery (leave-one-out:
    0..M-1); the ranking must not hold it. None where they are apart (query and gallery sets).
    """
    neighbour = np.asarray(neighbour_QK, dtype=np.int64)
    query_label, gallery_label = np.asarray(query_label_Q), np.asarray(gallery_label_M)
    assert neighbour.ndim == 2 and len(neighbour) == len(query_label), (neighbour.shape, query_label.shape)
    classes, gallery_class = np.unique(gallery_label, return_inverse=True)
    sizes = np.bincount(gallery_class)
    place = np.minimum(np.searchsorted(classes, query_label), len(classes) - 1)
    positives = np.where(classes[place] == query_label, sizes[place], 0)
    candidates = len(gallery_label)
    if own_Q is not None:
        own = np.asarray(own_Q, dtype=np.int64)
        assert (gallery_label[own] == query_label).all(), "a query's own gallery row has another label"
        assert not (neighbour == own[:, None]).any(), "a query ranks itself: leave it out by its row number"
        positives = positives - 1
        candidates -= 1
    counted = positives > 0
    relevant = gallery_label[neighbour[counted]] == query_label[counted, None]
    return Judged(relevant, positives[counted], candidates, int((~counted).sum()))


def recall_at(judged: Judged, k: int) -> float:
    """Share of queries with an item of their class among the k nearest."""
    _need(judged, k)
    return float(judged.relevant_QK[:, :k].any(axis=1).mean())


def r_precision(judged: Judged) -> float:
    """Mean share of relevant items among the R nearest."""
    return float((_first_r(judged).sum(axis=1) / judged.positives_Q).mean())


def map_at_r(judged: Judged) -> float:
    """Mean average precision over the R nearest."""
    relevant_QK = _first_r(judged)
    precision_QK = relevant_QK.cumsum(axis=1) / np.arange(1, relevant_QK.shape[1] + 1)
    return float(((precision_QK * relevant_QK).sum(axis=1) / judged.positives_Q).mean())


def _first_r(judged: Judged) -> NDArray[np.bool_]:
    """The relevant places among each query's first R."""
    most = int(judged.positives_Q.max(initial=0))
    _need(judged, most)
    return judged.relevant_QK[:, :most] & (np.arange(most) < judged.positives_Q[:, None])


def _need(judged: Judged, places: int) -> None:
    """The ranking must reach `places`, or hold every candidate."""
    assert judged.queries > 0, "no query has another item of its class"
    have = judged.relevant_QK.shape[1]
    assert have >= min(places, judged.candidates), f"the ranking holds {have} places, {places} are needed"
