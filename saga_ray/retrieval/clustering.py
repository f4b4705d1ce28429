"""Clustering quality: cut into as many heaps as there are classes, are the heaps the classes?"""

from __future__ import annotations

import faiss
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import normalized_mutual_info_score

ITERATIONS = 25
RESTARTS = 5  # one start alone moves NMI by about 0.01


def k_means(z_ME: ArrayLike, k: int, *, seed: int) -> NDArray[np.int64]:
    """Cluster numbers 0..k-1 of M points, by FAISS (on the GPU where it has one), best of `RESTARTS`.

    Clusters without points are refilled by splitting large ones. All points are used (FAISS would sample by
    default).
    """
    z = np.ascontiguousarray(z_ME, dtype=np.float32)
    assert np.isfinite(z).all() and 1 <= k <= len(z), (k, z.shape)
    clustering = faiss.Kmeans(
        z.shape[1],
        k,
        niter=ITERATIONS,
        nredo=RESTARTS,
        init_method=faiss.ClusteringInitMethod_KMEANS_PLUS_PLUS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(z),
        gpu=faiss.get_num_gpus() > 0,
    )
    clustering.train(z)
    return clustering.assign(z)[1]


def nmi(z_ME: ArrayLike, label_M: ArrayLike, *, seed: int) -> float:
    """Normalised mutual information (arithmetic mean) of labels and k-means, k = number of classes."""
    label = np.asarray(label_M)
    cluster_M = k_means(z_ME, len(np.unique(label)), seed=seed)
    return float(normalized_mutual_info_score(label, cluster_M))
