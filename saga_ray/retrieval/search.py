"""Exact nearest neighbours by inner product, with FAISS (on the GPUs where FAISS has been built for them)."""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray

from saga_ray.errors import UserError

NORM_TOLERANCE = 1e-2  # half-precision embeddings have norms within about 0.004 of 1
QUERIES_AT_ONCE = 4096
GPU_MOST_NEIGHBOURS = 2048  # what FAISS's GPU kernels can select


def nearest(
    query_QE: ArrayLike, gallery_ME: ArrayLike, k: int, *, exclude: ArrayLike | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k gallery rows most similar to each query, best first: (row numbers, inner products), both Q x K.

    `exclude` names, for each query, the gallery row that is the query itself; it is left out **by its row
    number** (an exact duplicate may well rank before it). K is k, or fewer where the gallery has fewer
    candidates.

    Ties: among equal scores the order is that of a permutation of the gallery drawn from `seed`, never the
    order in which the gallery is given. A gallery that lists the right answers first gains nothing, and an
    encoder that maps every image to one point scores what chance scores. The result is deterministic for a
    seed.

    Raises UserError where embeddings are not finite or not L2-normalised.
    """
    query, gallery = _checked(query_QE, "query"), _checked(gallery_ME, "gallery")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"queries have width {query.shape[1]}, gallery {gallery.shape[1]}; embed both with one encoder"
        )
    own = None if exclude is None else np.asarray(exclude, dtype=np.int64)
    assert own is None or own.shape == (len(query),), (own.shape, len(query))
    assert k >= 1, k
    spare = 0 if own is None else 1
    k = min(k, len(gallery) - spare)
    if k < 1:
        raise UserError("the gallery has no item to search besides the query itself; give it more images")

    order_M = np.random.default_rng(seed).permutation(len(gallery))
    index = _index(gallery[order_M], k + spare)
    rows = np.empty((len(query), k), dtype=np.int64)
    scores = np.empty((len(query), k), dtype=np.float32)
    for start in range(0, len(query), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        found_scores, found = index.search(query[part], k + spare)
        found = order_M[found]
        if own is not None:
            found, found_scores = _without(own[part], found, found_scores)
        rows[part], scores[part] = found, found_scores
    return rows, scores


def _checked(embedding: ArrayLike, name: str) -> NDArray[np.float32]:
    checked = np.ascontiguousarray(embedding, dtype=np.float32)
    assert checked.ndim == 2, (name, checked.shape)
    norm = np.linalg.norm(checked, axis=1)
    bad = np.flatnonzero(~np.isfinite(norm))
    if bad.size:
        raise UserError(
            f"{bad.size} of {len(norm)} {name} embeddings are NaN or infinite (the first is row {bad[0]}); "
            "look for a diverged checkpoint or a broken image"
        )
    bad = np.flatnonzero(np.abs(norm - 1) > NORM_TOLERANCE)
    if bad.size:
        raise UserError(
            f"{bad.size} of {len(norm)} {name} embeddings are not L2-normalised "
            f"(row {bad[0]} has norm {norm[bad[0]]:.4g}); "
            "divide each embedding by its norm before searching"
        )
    return checked


def _index(gallery_ME: NDArray[np.float32], neighbours: int) -> faiss.Index:
    index: faiss.Index = faiss.IndexFlatIP(gallery_ME.shape[1])
    if faiss.get_num_gpus() > 0 and neighbours <= GPU_MOST_NEIGHBOURS:
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(gallery_ME)
    return index


def _without(
    own_Q: NDArray[np.int64], rows: NDArray[np.int64], scores: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Drop each query's own row; where it is not among those found (more ties than places), drop the last."""
    drop = rows == own_Q[:, None]
    drop[~drop.any(axis=1), -1] = True
    shape = (len(rows), rows.shape[1] - 1)
    return rows[~drop].reshape(shape), scores[~drop].reshape(shape)
