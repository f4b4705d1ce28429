"""The score of labelled embeddings, by the protocol of their data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saga_ray.errors import UserError
from saga_ray.retrieval.clustering import nmi
from saga_ray.retrieval.metrics import judge, map_at_r, r_precision, recall_at
from saga_ray.retrieval.protocol import Protocol
from saga_ray.retrieval.search import nearest


def evaluate_embeddings(
    z_ME: ArrayLike, labels_M: ArrayLike, *, seed: int, roles_M: Sequence[str] | None = None
) -> dict[str, float]:
    """What `retrieval_measures` gives, and nmi (of all pictures, whatever their roles)."""
    return retrieval_measures(z_ME, labels_M, seed=seed, roles_M=roles_M) | {
        "nmi": nmi(np.asarray(z_ME, dtype=np.float32), np.asarray(labels_M), seed=seed)
    }


def ranked(z_ME: NDArray[np.float32], protocol: Protocol, k: int, *, seed: int) -> NDArray[np.int64]:
    """Each query's k nearest, best first, as places in the protocol's gallery (Q x K): `search.nearest`."""
    query, gallery = z_ME[protocol.query_Q], z_ME[protocol.gallery_G]
    return nearest(query, gallery, k, exclude=protocol.own_Q, seed=seed)[0]


def retrieval_measures(
    z_ME: ArrayLike, labels_M: ArrayLike, *, seed: int, roles_M: Sequence[str] | None = None
) -> dict[str, float]:
    """Every item queries all the others: recall@1, @2, @4, @8, map@r and r_precision, as fractions. Where
    roles tell queries from a gallery these search that alone, and recall is @1, @10, @20, @30, @40, @50.

    `queries` counts the queries behind the numbers, `queries_left_out` those whose class has no item to find.
    `seed` decides ties. Embeddings are L2-normalised, labels of any type that can be compared.
    """
    z, label = np.asarray(z_ME, dtype=np.float32), np.asarray(labels_M)
    assert label.shape == z.shape[:1], (z.shape, label.shape)
    protocol = Protocol.of(roles_M, len(z))
    most = int(protocol.positives(label).max(initial=0))
    if most < 1:
        raise UserError(
            "no class has two images, so no query has an answer; evaluate on classes of two images or more"
            if protocol.leave_one_out
            else "no query has an image of its class in the gallery, so none has an answer; evaluate on "
            "classes that have both"
        )
    places_QK = ranked(z, protocol, max(*protocol.recall_at, most), seed=seed)
    judged = judge(places_QK, label[protocol.query_Q], label[protocol.gallery_G], own_Q=protocol.own_Q)
    return {
        **{f"recall@{k}": recall_at(judged, k) for k in protocol.recall_at},
        "map@r": map_at_r(judged),
        "r_precision": r_precision(judged),
        "queries": judged.queries,
        "queries_left_out": judged.left_out,
    }
