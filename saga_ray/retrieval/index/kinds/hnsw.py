"""Approximate, fast for one query at a time: a graph of neighbours (Malkov and Yashunin, arXiv 1603.09320).

The graph cannot lose a node, so deleted rows stay in it, unfindable, until they are a fifth of it; then it is
made anew from the embeddings that it holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.index.kinds.base import FILE, Vectors, search_with

LINKS = 32
BUILD_EFFORT = 200
SEARCH_EFFORT = 64
MOST_DEAD = 0.2
DEAD = "deleted.npy"
BLOCK = 10_000


class Hnsw(Vectors):
    """FAISS's graph over the whole embeddings; `effort` is the number of candidates that a search keeps."""

    kind = "hnsw"

    def __init__(self, index: faiss.IndexIDMap2, dead_M: NDArray[np.int64]) -> None:
        self.index = index
        self.dead_M = dead_M
        self.effort: int = SEARCH_EFFORT

    @property
    def size(self) -> int:
        """Rows that can be found."""
        return int(self.index.ntotal) - len(self.dead_M)

    @property
    def most_effort(self) -> int:
        """See `Vectors`."""
        return max(self.size, 1)

    def add(self, keys_M: NDArray[np.int64], z_ME: NDArray[np.float32]) -> None:
        """See `Vectors`."""
        self.index.add_with_ids(np.ascontiguousarray(z_ME), keys_M)

    def remove(self, keys_M: NDArray[np.int64]) -> None:
        """See `Vectors`."""
        self.dead_M = np.union1d(self.dead_M, keys_M)
        if len(self.dead_M) > MOST_DEAD * self.index.ntotal:
            self._make_anew()

    def search(self, z_QE: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `Vectors`."""
        k = min(k, self.size)
        alive = faiss.IDSelectorNot(faiss.IDSelectorBatch(self.dead_M)) if len(self.dead_M) else None
        parameters = faiss.SearchParametersHNSW(  # type: ignore[attr-defined]  # the stubs lack it
            efSearch=max(self.effort, 2 * k), sel=alive
        )
        return self._fill_up(z_QE, *search_with(self.index, z_QE, k, parameters))

    def keys(self) -> NDArray[np.int64]:
        """See `Vectors`."""
        keys_M: NDArray[np.int64] = np.setdiff1d(faiss.vector_to_array(self.index.id_map), self.dead_M)
        return keys_M

    def vectors(self, keys_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Vectors`."""
        z_ME: NDArray[np.float32] = self.index.reconstruct_batch(keys_M)
        return z_ME

    def save(self, folder: Path) -> None:
        """See `Vectors`."""
        faiss.write_index(self.index, str(folder / FILE))
        np.save(folder / DEAD, self.dead_M)

    def settings(self) -> dict[str, Any]:
        """See `Vectors`."""
        return {"links": LINKS, "build_effort": BUILD_EFFORT}

    def _make_anew(self) -> None:
        keys_M, old = self.keys(), self.index
        self.index = _empty(old.d)
        for start in range(0, len(keys_M), BLOCK):
            block_M = keys_M[start : start + BLOCK]
            self.index.add_with_ids(old.reconstruct_batch(block_M), block_M)
        self.dead_M = np.empty(0, dtype=np.int64)


def make(z_ME: NDArray[np.float32]) -> Hnsw:
    """An empty graph."""
    return Hnsw(_empty(z_ME.shape[1]), np.empty(0, dtype=np.int64))


def load(folder: Path) -> Hnsw:
    """The graph stored in a snapshot."""
    return Hnsw(cast(faiss.IndexIDMap2, faiss.read_index(str(folder / FILE))), np.load(folder / DEAD))


def _empty(width: int) -> faiss.IndexIDMap2:
    graph = faiss.IndexHNSWFlat(width, LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = BUILD_EFFORT
    return faiss.IndexIDMap2(graph)
