"""k-means and NMI on heaps that are known."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score

from saga_ray.retrieval.clustering import k_means, nmi


def heaps(classes: int, each: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    label = np.repeat(np.arange(classes), each)
    z = rng.normal(size=(classes, 16))[label] + noise * rng.normal(size=(len(label), 16))
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32), label


def test_separate_classes_are_found_and_the_order_of_items_does_not_matter():
    z, label = heaps(4, 30, noise=0.05)
    order = np.random.default_rng(1).permutation(len(label))
    assert nmi(z, label, seed=0) == pytest.approx(1)
    assert nmi(z[order], label[order], seed=0) == pytest.approx(1)


def test_shuffled_labels_share_little_with_the_clusters():
    z, label = heaps(5, 60, noise=0.05)
    assert nmi(z, np.random.default_rng(0).permutation(label), seed=0) < 0.1


def test_nmi_is_close_to_that_of_another_librarys_k_means():
    z, label = heaps(20, 25, noise=1.0)
    theirs = normalized_mutual_info_score(label, KMeans(20, n_init=3, random_state=0).fit_predict(z))
    assert 0.5 < theirs < 0.95
    assert nmi(z, label, seed=0) == pytest.approx(theirs, abs=0.03)


def test_a_seed_repeats_the_clusters():
    z, _ = heaps(8, 20, noise=0.5)
    assert np.array_equal(k_means(z, 8, seed=3), k_means(z, 8, seed=3))


def test_collapsed_embeddings_still_cluster():
    z = np.repeat(heaps(1, 1, noise=0.0)[0], 12, axis=0)
    assert 0 <= nmi(z, np.repeat([0, 1, 2], 4), seed=0) <= 1


def test_all_items_are_used_without_warnings(capfd):
    z, label = heaps(2, 600, noise=0.3)
    nmi(z, label, seed=0)
    assert capfd.readouterr() == ("", "")
