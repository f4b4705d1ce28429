"""Metrics over ranked ids against loops and against pytorch-metric-learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator

from saga_ray.retrieval.metrics import judge, map_at_r, r_precision, recall_at
from saga_ray.retrieval.search import nearest


def naive(
    ranking: list[int], query_class: int, classes: list[int], own: int | None
) -> dict[str, float] | None:
    """One query's metrics over its whole ranking, place by place; None where it has no answer."""
    hits = [classes[item] == query_class for item in ranking]
    r = sum(c == query_class for i, c in enumerate(classes) if i != own)
    if r == 0:
        return None
    precision = [sum(hits[: i + 1]) / (i + 1) for i in range(len(hits))]
    return {
        "recall@1": float(any(hits[:1])),
        "recall@3": float(any(hits[:3])),
        "r_precision": sum(hits[:r]) / r,
        "map@r": sum(precision[i] for i in range(r) if hits[i]) / r,
    }


def ours(judged) -> dict[str, float]:
    return {
        "recall@1": recall_at(judged, 1),
        "recall@3": recall_at(judged, 3),
        "r_precision": r_precision(judged),
        "map@r": map_at_r(judged),
    }


@given(st.lists(st.integers(0, 4), min_size=2, max_size=20), st.randoms(use_true_random=False))
def test_leave_one_out_metrics_equal_a_loop_over_places(classes, random):
    rankings = []
    for own in range(len(classes)):
        others = [item for item in range(len(classes)) if item != own]
        random.shuffle(others)
        rankings.append(others)
    judged = judge(rankings, classes, classes, own_Q=np.arange(len(classes)))
    each = [naive(ranking, classes[q], classes, q) for q, ranking in enumerate(rankings)]
    counted = [one for one in each if one is not None]
    assert (judged.queries, judged.left_out) == (len(counted), len(each) - len(counted))
    if counted:
        assert ours(judged) == pytest.approx(
            {name: np.mean([one[name] for one in counted]) for name in counted[0]}
        )


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 4), min_size=1, max_size=15),
    st.randoms(use_true_random=False),
)
def test_query_and_gallery_metrics_equal_a_loop_over_places(query_classes, classes, random):
    rankings = [random.sample(range(len(classes)), len(classes)) for _ in query_classes]
    judged = judge(rankings, query_classes, classes)
    each = [naive(ranking, c, classes, None) for ranking, c in zip(rankings, query_classes, strict=True)]
    counted = [one for one in each if one is not None]
    assert (judged.queries, judged.left_out) == (len(counted), len(each) - len(counted))
    if counted:
        assert ours(judged) == pytest.approx(
            {name: np.mean([one[name] for one in counted]) for name in counted[0]}
        )


def test_the_library_agrees_on_leave_one_out():
    rng = np.random.default_rng(0)
    label = np.repeat(np.arange(6), [2, 3, 5, 8, 1, 9])  # class 4 has a single item
    z = rng.normal(size=(len(label), 8)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    own = np.arange(len(label))
    neighbour, _ = nearest(z, z, 8, exclude=own)
    judged = judge(neighbour, label, label, own_Q=own)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k="max_bin_count", device=torch.device("cpu"))
    theirs = calculator.get_accuracy(z, label, z, label, ref_includes_query=True)
    mine = (recall_at(judged, 1), r_precision(judged), map_at_r(judged))
    assert judged.left_out == 1
    assert mine == pytest.approx([theirs[name] for name in names], rel=1e-6)


def test_the_library_agrees_on_query_and_gallery():
    rng = np.random.default_rng(1)
    query_label, label = rng.integers(0, 5, 20), rng.integers(0, 5, 40)
    z = rng.normal(size=(60, 8)).astype(np.float32)
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    neighbour, _ = nearest(z[:20], z[20:], 40)
    judged = judge(neighbour, query_label, label)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    calculator = AccuracyCalculator(include=names, k=40, device=torch.device("cpu"))
    theirs = calculator.get_accuracy(z[:20], query_label, z[20:], label)
    mine = (recall_at(judged, 1), r_precision(judged), map_at_r(judged))
    assert mine == pytest.approx([theirs[name] for name in names], rel=1e-6)


def test_labels_may_be_names():
    judged = judge([[1, 2], [0, 2], [1, 0]], ["owl", "owl", "kite"], ["owl", "owl", "kite"], own_Q=[0, 1, 2])
    assert recall_at(judged, 1) == 1 and judged.left_out == 1


def test_a_ranking_that_is_too_short_for_a_metric_is_refused():
    judged = judge([[1], [0], [0], [0]], [0, 0, 0, 0], [0, 0, 0, 0], own_Q=[0, 1, 2, 3])
    for metric in (map_at_r, r_precision):
        with pytest.raises(AssertionError, match="places"):
            metric(judged)


def test_a_ranking_that_holds_the_query_itself_is_refused():
    with pytest.raises(AssertionError, match="itself"):
        judge([[0], [0]], [0, 0], [0, 0], own_Q=[0, 1])
