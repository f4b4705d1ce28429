"""The retrieval protocol for labelled images: leave one out over the test classes (SAGA, section 6)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from saga_ray.errors import UserError
from saga_ray.retrieval.clustering import nmi
from saga_ray.retrieval.metrics import judge, map_at_r, r_precision, recall_at
from saga_ray.retrieval.search import nearest

RECALL_AT = (1, 2, 4, 8)


def evaluate_embeddings(z_ME: ArrayLike, labels_M: ArrayLike, *, seed: int) -> dict[str, float]:
    """What `retrieval_measures` gives, and nmi."""
    return retrieval_measures(z_ME, labels_M, seed=seed) | {
        "nmi": nmi(np.asarray(z_ME, dtype=np.float32), np.asarray(labels_M), seed=seed)
    }


def retrieval_measures(z_ME: ArrayLike, labels_M: ArrayLike, *, seed: int) -> dict[str, float]:
    """Every item queries all the others: recall@1, @2, @4, @8, map@r and r_precision, as fractions.

    `queries` counts the queries behind the numbers, `queries_left_out` those whose class has no other item.
    `seed` decides ties. Embeddings are L2-normalised, labels of any type that can be compared.
    """
    z, label = np.asarray(z_ME, dtype=np.float32), np.asarray(labels_M)
    assert label.shape == z.shape[:1], (z.shape, label.shape)
    largest_class = int(np.unique(label, return_counts=True)[1].max(initial=0))
    if largest_class < 2:
        raise UserError(
            "no class has two images, so no query has an answer; evaluate on classes of two images or more"
        )
    own = np.arange(len(z))
    neighbour_MK, _ = nearest(z, z, max(*RECALL_AT, largest_class - 1), exclude=own, seed=seed)
    judged = judge(neighbour_MK, label, label, own_Q=own)
    return {
        **{f"recall@{k}": recall_at(judged, k) for k in RECALL_AT},
        "map@r": map_at_r(judged),
        "r_precision": r_precision(judged),
        "queries": judged.queries,
        "queries_left_out": judged.left_out,
    }
