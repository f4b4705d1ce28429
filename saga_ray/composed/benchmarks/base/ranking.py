"""From a query's scores to its ranking.

Shapes: M pictures of the query's gallery, C of them that the query ranks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saga_ray.composed.benchmarks.base.queries import Benchmark, Query
from saga_ray.data.seeds import generator
from saga_ray.errors import UserError

DEPTH = 50
"""Places that the deepest measure and every server's file look at."""


@dataclass(frozen=True)
class Ranking:
    """A query's answer, best first: small, whatever the gallery's size."""

    query: str
    nearest: tuple[str, ...]
    """Ids of the first `DEPTH` candidates, or of all where there are fewer."""
    members: tuple[str, ...] = ()
    """The query's subset in its order; empty where it has none."""


def rank(benchmark: Benchmark, query: Query, scores_M: ArrayLike, *, seed: int = 0) -> Ranking:
    """Rank by the scores of all pictures of the query's gallery, in the gallery's order; higher is nearer.

    Ties: among equal scores the order is drawn by lot from `seed` and the query's id, over the ids in
    alphabetical order. So it is the same for a seed however the gallery or a release lists its pictures, a
    list that names the target first gains nothing, and a scorer that gives all pictures one score scores
    what chance scores (on average over queries and seeds).

    Raises UserError for scores that are not finite.
    """
    gallery = benchmark.galleries[query.gallery]
    scores = np.asarray(scores_M, dtype=np.float64)
    assert scores.shape == (len(gallery.pictures),), (scores.shape, len(gallery.pictures))
    bad = np.flatnonzero(~np.isfinite(scores))
    if bad.size:
        raise UserError(
            f"{benchmark.name}: {bad.size} scores of query {query.id} are NaN or infinite (the first is for "
            f"picture {gallery.pictures[bad[0]].id}); look for a diverged model or a broken picture"
        )
    lot_M = generator(seed, "composed ties", query.id).permutation(len(scores))[gallery.place_M]

    def best(rows_C: NDArray[np.int64]) -> tuple[str, ...]:
        return tuple(gallery.pictures[row].id for row in _best(rows_C, scores, lot_M))

    members = np.array([gallery.rows[picture] for picture in query.members], dtype=np.int64)
    return Ranking(query.id, best(benchmark.candidate_rows(query)), best(members))


def _best(
    rows_C: NDArray[np.int64], scores_M: NDArray[np.float64], lot_M: NDArray[np.int64]
) -> NDArray[np.int64]:
    """The first `DEPTH` rows by score, then by lot."""
    score_C = scores_M[rows_C]
    if len(rows_C) > DEPTH:
        # whatever ties with the last place stays in until the lots are looked at
        last = np.partition(score_C, len(rows_C) - DEPTH)[len(rows_C) - DEPTH]
        rows_C, score_C = rows_C[score_C >= last], score_C[score_C >= last]
    order_C = np.lexsort((lot_M[rows_C], -score_C))
    best: NDArray[np.int64] = rows_C[order_C[:DEPTH]]
    return best
