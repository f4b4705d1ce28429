"""Exact: every row is compared. The right kind up to some hundred thousand rows."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import faiss
import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.index.kinds.base import FILE, Vectors


class Flat(Vectors):
    """FAISS's exact inner-product index."""

    kind = "flat"

    def __init__(self, index: faiss.IndexIDMap2) -> None:
        self.index = index

    @property
    def size(self) -> int:
        """Rows that can be found."""
        return int(self.index.ntotal)

    def add(self, keys_M: NDArray[np.int64], z_ME: NDArray[np.float32]) -> None:
        """See `Vectors`."""
        self.index.add_with_ids(np.ascontiguousarray(z_ME), keys_M)

    def remove(self, keys_M: NDArray[np.int64]) -> None:
        """See `Vectors`."""
        removed = self.index.remove_ids(faiss.IDSelectorBatch(keys_M))
        assert removed == len(keys_M), (removed, len(keys_M))

    def search(self, z_QE: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """See `Vectors`."""
        scores, keys = self.index.search(z_QE, min(k, self.size))
        return keys, scores

    def keys(self) -> NDArray[np.int64]:
        """See `Vectors`."""
        return np.sort(faiss.vector_to_array(self.index.id_map))

    def vectors(self, keys_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """See `Vectors`."""
        z_ME: NDArray[np.float32] = self.index.reconstruct_batch(keys_M)
        return z_ME

    def save(self, folder: Path) -> None:
        """See `Vectors`."""
        faiss.write_index(self.index, str(folder / FILE))


def make(z_ME: NDArray[np.float32]) -> Flat:
    """An empty index."""
    return Flat(faiss.IndexIDMap2(faiss.IndexFlatIP(z_ME.shape[1])))


def load(folder: Path) -> Flat:
    """The index stored in a snapshot."""
    return Flat(cast(faiss.IndexIDMap2, faiss.read_index(str(folder / FILE))))
