"""Approximate, small in memory: rows in lists by their nearest centroid, as codes of some dozen bytes each
(Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", 2011).

A search compares codes in the nearest `effort` lists, then compares the best of these exactly, by the
embeddings in half precision, which lie in a file beside and are read where they are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
from numpy.typing import NDArray

from saga_ray.errors import UserError
from saga_ray.retrieval.index.kinds.base import FILE, NONE, Vectors, search_with

BITS = 8
FEWEST = 39 * 2**BITS
"""Rows to learn the codes from; FAISS wants 39 for each of a code's values."""
MOST_BYTES = 64
SEARCH_EFFORT = 8
RERANKED, FEWEST_RERANKED = 16, 256
"""Rows compared exactly: so many for each that is asked for, and at least so many."""
AT_ONCE = 64
"""Queries whose candidates are in memory together."""
EMBEDDINGS, KEYS = "embeddings.npy", "keys.npy"


class IvfPq(Vectors):
    """FAISS's inverted lists of codes; `effort` is the number of lists that a search looks through."""

    kind = "ivfpq"

    def __init__(
        self, index: faiss.IndexIVFPQ, keys_M: NDArray[np.int64], stored_ME: NDArray[np.float16]
    ) -> None:
        self.index = index
        self.keys_M, self.stored_ME = keys_M, stored_ME
        self.effort: int = min(SEARCH_EFFORT, index.nlist)

    @property
    def size(self) -> int:
        """Rows that can be found."""
        return len(self.keys_M)

    @property
    def most_effort(self) -> int:
        """See `Vectors`."""
        return int(self.index.nlist)

    def add(self, keys_M: NDArray[np.int64], z_ME: NDArray[np.float32]) -> None:
        """See `Vectors`."""
        self.index.add_with_ids(np.ascontiguousarray(z_ME), keys_M)
        self.keys_M = np.concatenate([self.keys_M, keys_M])
        self.stored_ME = np.concatenate([self.stored_ME, z_ME.astype(np.float16)])

    def remove(self, keys_M: NDArray[np.int64]) -> None:
        """See `Vectors`."""
        removed = self.index.remove_ids(faiss.IDSelectorBatch(keys_M))
        assert removed == len(keys_M), (removed, len(keys_M))
        kept_M = ~np.isin(self.keys_M, keys_M)
        self.keys_M, self.stored_ME = self.keys_M[kept_M], self.stored_ME[kept_M]

    def search(self, z_QE: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `Vectors`."""
        k = min(k, self.size)
        candidates = min(max(RERANKED * k, FEWEST_RERANKED), self.size)
        parameters = faiss.SearchParametersIVF(nprobe=self.effort)  # type: ignore[call-arg]  # the stubs err
        keys_QC, _ = search_with(self.index, z_QE, candidates, parameters)
        parts = [
            self._rerank(z_QE[start : start + AT_ONCE], keys_QC[start : start + AT_ONCE], k)
            for start in range(0, len(z_QE), AT_ONCE)
        ]
        keys_QK, scores_QK = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        return self._fill_up(z_QE, keys_QK, scores_QK)

    def keys(self) -> NDArray[np.int64]:
        """See `Vectors`."""
        return self.keys_M

    def vectors(self, keys_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Vectors`; rounded to half precision."""
        return self.stored_ME[np.searchsorted(self.keys_M, keys_M)].astype(np.float32)

    def save(self, folder: Path) -> None:
        """See `Vectors`."""
        faiss.write_index(self.index, str(folder / FILE))
        np.save(folder / KEYS, self.keys_M)
        np.save(folder / EMBEDDINGS, self.stored_ME)

    def settings(self) -> dict[str, Any]:
        """See `Vectors`."""
        return {"lists": self.index.nlist, "bytes_a_code": self.index.pq.M * BITS // 8}

    def _rerank(
        self, z_QE: NDArray[np.float32], keys_QC: NDArray[np.int64], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k best of each query's candidates, by their exact scores."""
        known_QC = keys_QC != NONE
        stored_QCE = self.vectors(np.where(known_QC, keys_QC, self.keys_M[0]).ravel())
        scores_QC = np.einsum("qe,qce->qc", z_QE, stored_QCE.reshape(*keys_QC.shape, -1))
        scores_QC[~known_QC] = -np.inf
        best_QK = np.argsort(-scores_QC, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(keys_QC, best_QK, 1), np.take_along_axis(scores_QC, best_QK, 1)


def make(z_ME: NDArray[np.float32]) -> IvfPq:
    """Empty lists whose centroids and codes are learned from these embeddings, on the GPUs where FAISS has
    them.

    Raises UserError for too few embeddings.
    """
    rows, width = z_ME.shape
    if rows < FEWEST:
        raise UserError(
            f"an index of kind ivfpq learns from {FEWEST:,} pictures or more; of {rows:,} make a flat one"
        )
    code_bytes = max(size for size in range(1, min(MOST_BYTES, width) + 1) if width % size == 0)
    lists = max(1, min(round(4 * rows**0.5), rows // 39))
    index = faiss.IndexIVFPQ(
        faiss.IndexFlatIP(width), width, lists, code_bytes, BITS, faiss.METRIC_INNER_PRODUCT
    )
    if faiss.get_num_gpus() > 0:
        on_gpus = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(width))
        index.clustering_index = on_gpus
    index.train(np.ascontiguousarray(z_ME))
    index.clustering_index = None  # type: ignore[assignment]  # the stubs err
    return IvfPq(index, np.empty(0, dtype=np.int64), np.empty((0, width), dtype=np.float16))


def load(folder: Path) -> IvfPq:
    """The lists stored in a snapshot; the embeddings stay on the disk."""
    index = cast(faiss.IndexIVFPQ, faiss.read_index(str(folder / FILE)))
    return IvfPq(index, np.load(folder / KEYS), np.load(folder / EMBEDDINGS, mmap_mode="r"))
