"""What an approximate search misses: measured against the exact one over the same rows, on the index's own.

Also sets how hard a search looks: twice as hard, until it finds `TARGET` of the true neighbours.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.index.kinds import Vectors
from saga_ray.retrieval.index.snapshot import Measured

NEIGHBOURS = 10
TARGET = 0.95
QUERIES = 200
TIMED = 50
TOLERANCE = 1e-5
"""Equal scores: a picture may be there twice, and float32 sums depend on their order."""


def tune(vectors: Vectors, *, seed: int = 0) -> Measured | None:
    """Set `vectors.effort`, no lower than it is, and say what it comes to. None for an exact index, and for
    less than two rows.
    """
    if vectors.effort is None or vectors.size < 2:
        return None
    keys_M = vectors.keys()
    k = min(NEIGHBOURS, len(keys_M) - 1)
    z_ME = vectors.vectors(keys_M)
    own_Q = np.sort(np.random.default_rng(seed).permutation(len(keys_M))[:QUERIES])
    query_QE = z_ME[own_Q]
    true_QK, places_QK = faiss.knn(query_QE, z_ME, k + 1, faiss.METRIC_INNER_PRODUCT)
    least_Q = _without(keys_M[own_Q], keys_M[places_QK], true_QK)[:, -1]
    while True:
        keys_QK, _ = vectors.search(query_QE, k + 1)
        exact_QK = np.einsum("qe,qke->qk", query_QE, z_ME[np.searchsorted(keys_M, keys_QK)])
        found_QK = _without(keys_M[own_Q], keys_QK, exact_QK) >= least_Q[:, None] - TOLERANCE
        recall = float(found_QK.mean())
        if recall >= TARGET or vectors.effort >= vectors.most_effort:
            break
        vectors.effort = min(2 * vectors.effort, vectors.most_effort)
    return Measured(
        recall_at_10=recall,
        queries=len(own_Q),
        size=len(keys_M),
        query_ms=_milliseconds(query_QE, lambda z_1E: vectors.search(z_1E, k)),
        flat_query_ms=_milliseconds(
            query_QE, lambda z_1E: faiss.knn(z_1E, z_ME, k, faiss.METRIC_INNER_PRODUCT)
        ),
    )


def _without(
    own_Q: NDArray[np.int64], keys_QK: NDArray[np.int64], scores_QK: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Scores less each query's own; where it is not among those found, less the last."""
    drop_QK = keys_QK == own_Q[:, None]
    drop_QK[~drop_QK.any(axis=1), -1] = True
    kept_QK: NDArray[np.float32] = scores_QK[~drop_QK].reshape(len(own_Q), -1)
    return kept_QK


def _milliseconds(query_QE: NDArray[np.float32], search: Callable[[NDArray[np.float32]], Any]) -> float:
    """The median over some queries, one a call, as a server asks."""
    times = []
    for place in range(min(TIMED, len(query_QE))):
        started = time.perf_counter()
        search(query_QE[place : place + 1])
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))
