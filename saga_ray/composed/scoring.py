"""Rankings of all queries by cosine, scored in blocks that fit in memory.

Legend: Q queries, b of a block, M pictures of a gallery, U different pictures, E embedding size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saga_ray.composed.benchmarks import Benchmark, Query, Ranking, rank

BLOCK = 1 << 26
"""Scores at a time: 256 MiB."""
SLICE = 1 << 14
"""Pictures whose embeddings are copied at a time."""


@dataclass(frozen=True)
class Ranked:
    """One way's answers, in the order of the benchmark's queries."""

    rankings: tuple[Ranking, ...]
    best: tuple[tuple[str, int] | None, ...]
    """The right picture that comes first, and its place, from 1, however far down; none where the targets
    are hidden, or never ranked."""


def right_pictures(query: Query) -> tuple[str, ...]:
    """All that answer a query, as far as the release tells."""
    return query.truths or query.targets


def score(
    benchmark: Benchmark,
    z_QE: NDArray[np.float32],
    z_UE: NDArray[np.float32],
    row_M: dict[str, NDArray[np.int64]],
    *,
    seed: int,
) -> Ranked:
    """Rank each query's gallery by cosine; embeddings are L2-normalised.

    `row_M`: gallery -> the row in `z_UE` of each of its pictures; `seed` decides ties.
    """
    rankings: dict[str, Ranking] = {}
    best: dict[str, tuple[str, int] | None] = {}
    for query, scores_M in _scored(benchmark, z_QE, z_UE, row_M):
        rankings[query.id] = rank(benchmark, query, scores_M, seed=seed)
        best[query.id] = _best(benchmark, query, rankings[query.id], scores_M)
    return Ranked(
        tuple(rankings[query.id] for query in benchmark.queries),
        tuple(best[query.id] for query in benchmark.queries),
    )


def _scored(
    benchmark: Benchmark,
    z_QE: NDArray[np.float32],
    z_UE: NDArray[np.float32],
    row_M: dict[str, NDArray[np.int64]],
) -> Iterator[tuple[Query, NDArray[np.float32]]]:
    of_gallery: dict[str, list[int]] = defaultdict(list)
    for place, query in enumerate(benchmark.queries):
        of_gallery[query.gallery].append(place)
    for gallery, places in of_gallery.items():
        rows = row_M[gallery]
        at_a_time = max(1, BLOCK // len(rows))
        for start in range(0, len(places), at_a_time):
            block = places[start : start + at_a_time]
            scores_bM = np.empty((len(block), len(rows)), dtype=np.float32)
            for first in range(0, len(rows), SLICE):
                part = slice(first, first + SLICE)
                scores_bM[:, part] = z_QE[block] @ z_UE[rows[part]].T
            for place, scores_M in zip(block, scores_bM, strict=True):
                yield benchmark.queries[place], scores_M


def _best(
    benchmark: Benchmark, query: Query, ranking: Ranking, scores_M: NDArray[np.float32]
) -> tuple[str, int] | None:
    right = right_pictures(query)
    if not right:
        return None
    for place, picture in enumerate(ranking.nearest, 1):
        if picture in right:
            return picture, place
    # not among the first, where ties are drawn by lot: count who is nearer
    gallery = benchmark.galleries[query.gallery]
    candidates = benchmark.candidate_rows(query)
    rows = np.array([gallery.rows[picture] for picture in right])
    rows = rows[np.isin(rows, candidates)]
    if not len(rows):
        return None
    top = int(rows[scores_M[rows].argmax()])
    nearer = int((scores_M[candidates] > scores_M[top]).sum())
    return gallery.pictures[top].id, max(nearer, len(ranking.nearest)) + 1
