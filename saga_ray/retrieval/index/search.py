"""An opened index: search it, look up its rows, follow its changes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saga_ray.errors import UserError
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index.snapshot import Info, Snapshot


@dataclass(frozen=True)
class Hit:
    """A row that a search found."""

    id: str
    score: float
    """Inner product with the query, which is the cosine: 1 for the same embedding."""
    label: str
    metadata: dict[str, Any]


class Index:
    """Searches one snapshot of an index at a time; `reload` goes on to a newer one.

    Safe to search from several threads, also while another one reloads: a call sees one snapshot throughout.
    """

    def __init__(self, folder: Path, snapshot: Snapshot) -> None:
        self.folder = folder
        self._snapshot = snapshot

    @classmethod
    def open(cls, folder: Path) -> Index:
        """The index in a folder as it is now. Raises UserError where there is none, or a damaged one."""
        return cls(folder, Snapshot.read_current(folder))

    @property
    def info(self) -> Info:
        """What ``index.json`` says."""
        return self._snapshot.info

    @property
    def encoder_hash(self) -> str:
        """Of the model that embedded the rows, see `saga_ray.retrieval.model`."""
        return self.info.encoder_hash

    @property
    def size(self) -> int:
        """Rows."""
        return self.info.size

    @property
    def width(self) -> int:
        """E."""
        return self.info.width

    @property
    def kind(self) -> str:
        """`flat` (exact), `hnsw` or `ivfpq`."""
        return self.info.kind

    def require_model(self, hash: str, where: object) -> None:
        """Raise UserError unless the model of this hash, which lies at `where`, embedded the rows."""
        if hash != self.encoder_hash:
            raise UserError(
                f"the index {self.folder} was built by another model ({self.encoder_hash[:12]}…, then at "
                f"{self.info.model}) than {where} ({hash[:12]}…): their embeddings cannot be compared; "
                "build the index anew with `saga index build`, or give the model that built it"
            )

    def search(self, z_QE: ArrayLike, k: int) -> list[list[Hit]]:
        """The k nearest rows of each query, best first; all rows where there are fewer than k.

        Queries are L2-normalised embeddings of the index's model. Raises UserError where one is not finite.
        """
        snapshot = self._snapshot
        query_QE = np.ascontiguousarray(z_QE, dtype=np.float32)
        assert query_QE.ndim == 2 and query_QE.shape[1] == snapshot.info.width, query_QE.shape
        assert k >= 1, k
        if not np.isfinite(query_QE).all():
            raise UserError("a query's embedding is NaN or infinite; look for a diverged checkpoint")
        if not len(query_QE) or not len(snapshot.rows):
            return [[] for _ in query_QE]
        keys_QK, scores_QK = snapshot.vectors.search(query_QE, k)
        records = iter(snapshot.rows.of_keys(keys_QK.ravel()))
        return [
            [_hit(next(records), score) for score in scores_K]
            for scores_K in scores_QK.astype(float).tolist()
        ]

    def __contains__(self, id: str) -> bool:
        return id in self._snapshot.rows

    def vector(self, id: str) -> NDArray[np.float32] | None:
        """A row's embedding z_E; none where there is no such row."""
        snapshot = self._snapshot
        if id not in snapshot.rows:
            return None
        z_1E = snapshot.vectors.vectors(np.array([snapshot.rows.key(id)]))
        return cast("NDArray[np.float32]", z_1E[0])

    def thumbnail(self, id: str) -> bytes | None:
        """A row's small picture as JPEG; none where there is no such row, or none was stored."""
        snapshot = self._snapshot
        return snapshot.rows.thumbnail(id) if id in snapshot.rows else None

    def reload(self) -> bool:
        """Go on to the current snapshot; whether it is another one than before."""
        if folders.state(self.folder) == self._snapshot.state:
            return False
        self._snapshot = Snapshot.read_current(self.folder)
        return True


def _hit(record: dict[str, Any], score: float) -> Hit:
    return Hit(record["id"], score, record["label"], record["metadata"])
