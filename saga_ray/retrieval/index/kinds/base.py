"""What all kinds of index can do: hold embeddings by a number (key) each, and find the nearest."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

FILE = "index.faiss"
NONE = -1
"""Stands for no key where there are fewer than k rows."""


def search_with(
    index: faiss.Index, z_QE: NDArray[np.float32], k: int, parameters: faiss.SearchParameters
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Keys and scores by FAISS, searching as the parameters say.

    A library in the same process that imports `faiss.contrib.torch_utils` (pytorch-metric-learning does) puts
    a `search` for tensors in place of FAISS's, which refuses parameters; FAISS's own is then `search_numpy`.
    """
    search = getattr(index, "search_numpy", index.search)
    scores_QK, keys_QK = search(z_QE, k, params=parameters)
    return keys_QK, scores_QK


class Vectors(ABC):
    """Embeddings of unit length, by key. A key is given once and never again, also after a deletion.

    Reading (`search`, `vectors`) is safe from several threads; changing is not.
    """

    kind: str
    effort: int | None = None
    """How hard a search looks: larger finds more of the true neighbours and takes longer; None: exact."""

    @property
    @abstractmethod
    def size(self) -> int:
        """Rows that can be found."""

    @property
    def most_effort(self) -> int:
        """The effort beyond which a search finds nothing more."""
        return 0

    @abstractmethod
    def add(self, keys_M: NDArray[np.int64], z_ME: NDArray[np.float32]) -> None:
        """Take rows in. Keys ascend, and are larger than all before."""

    @abstractmethod
    def remove(self, keys_M: NDArray[np.int64]) -> None:
        """Take rows out; they are never found again. All keys are present."""

    @abstractmethod
    def search(self, z_QE: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Keys and inner products (both Q x K) of the nearest rows, best first.

        K is k, or the number of rows where there are fewer; every place holds a row, each row at most once.
        """

    @abstractmethod
    def keys(self) -> NDArray[np.int64]:
        """Of all rows that can be found, ascending."""

    @abstractmethod
    def vectors(self, keys_M: NDArray[np.int64]) -> NDArray[np.float32]:
        """The embeddings z_ME as they are stored."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write into a folder; `load` of the same file reads it back."""

    def settings(self) -> dict[str, Any]:
        """What was chosen for this index, for people to read."""
        return {}

    def _fill_up(
        self, z_QE: NDArray[np.float32], keys_QK: NDArray[np.int64], scores_QK: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Answer the queries for which an approximate search found too few rows by comparing all rows."""
        short_Q = (keys_QK == NONE).any(axis=1)
        if short_Q.any():
            keys_M, k = self.keys(), keys_QK.shape[1]
            scores_QK[short_Q], places = faiss.knn(
                z_QE[short_Q], self.vectors(keys_M), k, faiss.METRIC_INNER_PRODUCT
            )
            keys_QK[short_Q] = keys_M[places]
        return keys_QK, scores_QK
