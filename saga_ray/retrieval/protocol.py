"""Who searches whom where labelled pictures are scored.

Leave one out: every picture queries all the others (SAGA, section 6). Query and gallery: a data set says
which pictures query and which are found (In-Shop); no query is a candidate.

Legend: M pictures, Q queries, G pictures of the gallery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saga_ray.data.rows import GALLERY, QUERY
from saga_ray.retrieval.measures import LEAVE_ONE_OUT_RECALL, QUERY_GALLERY_RECALL


@dataclass(frozen=True, eq=False)
class Protocol:
    """Rows of the pictures that query and of those that are searched: all of both without a gallery."""

    query_Q: NDArray[np.int64]
    gallery_G: NDArray[np.int64]
    leave_one_out: bool

    @classmethod
    def of(cls, roles_M: Sequence[str] | None, pictures: int) -> Protocol:
        """The protocol of that many pictures; their roles are `ImageTable.roles`. Where none is a query, as
        in a data set's training part, every picture queries all the others."""
        if roles_M is None or QUERY not in roles_M:
            every_M = np.arange(pictures)
            return cls(every_M, every_M, True)
        roles = np.asarray(roles_M)
        assert roles.shape == (pictures,), (roles.shape, pictures)
        return cls(np.flatnonzero(roles == QUERY), np.flatnonzero(roles == GALLERY), False)

    @property
    def recall_at(self) -> tuple[int, ...]:
        """The k of recall@k."""
        return LEAVE_ONE_OUT_RECALL if self.leave_one_out else QUERY_GALLERY_RECALL

    @property
    def own_Q(self) -> NDArray[np.int64] | None:
        """Each query's own place in the gallery, where it has one."""
        return self.query_Q if self.leave_one_out else None

    def positives(self, labels_M: ArrayLike) -> NDArray[np.int64]:
        """R_Q: how many right answers each query has."""
        classes, label_M = np.unique(np.asarray(labels_M), return_inverse=True)
        sizes = np.bincount(label_M[self.gallery_G], minlength=len(classes))
        found: NDArray[np.int64] = sizes[label_M[self.query_Q]] - int(self.leave_one_out)
        return found
