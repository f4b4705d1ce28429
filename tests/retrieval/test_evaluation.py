"""The leave-one-out protocol as a whole."""

from __future__ import annotations

import numpy as np
import pytest

from saga_ray.errors import UserError
from saga_ray.retrieval.evaluation import evaluate_embeddings

KEYS = {
    "recall@1",
    "recall@2",
    "recall@4",
    "recall@8",
    "map@r",
    "r_precision",
    "nmi",
    "queries",
    "queries_left_out",
}


def normalised(z: np.ndarray) -> np.ndarray:
    return (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)


def test_a_perfect_encoder_scores_one_everywhere():
    label = np.repeat(np.arange(5), 12)
    z = normalised(np.eye(5)[label] + 0.01 * np.random.default_rng(0).normal(size=(60, 5)))
    scores = evaluate_embeddings(z, label, seed=0)
    assert set(scores) == KEYS
    assert {scores[key] for key in KEYS - {"queries", "queries_left_out", "nmi"}} == {1.0}
    assert scores["nmi"] == pytest.approx(1) and scores["queries"] == 60 and scores["queries_left_out"] == 0


def test_scores_equal_a_loop_over_a_sorted_similarity():
    rng = np.random.default_rng(1)
    label = rng.integers(0, 6, 50)
    z = normalised(rng.normal(size=(50, 4)) + np.eye(6, 4)[label])
    expected = {f"recall@{k}": 0.0 for k in (1, 2, 4, 8)} | {"map@r": 0.0, "r_precision": 0.0}
    for q in range(50):
        ranking = sorted((i for i in range(50) if i != q), key=lambda i: -float(z[q] @ z[i]))
        hits = [label[i] == label[q] for i in ranking]
        r = sum(hits)
        for k in (1, 2, 4, 8):
            expected[f"recall@{k}"] += any(hits[:k]) / 50
        expected["r_precision"] += sum(hits[:r]) / r / 50
        expected["map@r"] += sum(sum(hits[: i + 1]) / (i + 1) for i in range(r) if hits[i]) / r / 50
    scores = evaluate_embeddings(z, label, seed=0)
    assert {key: scores[key] for key in expected} == pytest.approx(expected)


def test_a_collapsed_encoder_scores_what_chance_scores_although_classes_stand_together():
    label = np.repeat(np.arange(20), 10)
    z = np.repeat(normalised(np.ones((1, 8))), 200, axis=0)
    scores = [evaluate_embeddings(z, label, seed=seed) for seed in range(10)]
    assert np.mean([s["recall@1"] for s in scores]) < 0.1  # 0.045 by chance
    assert np.mean([s["map@r"] for s in scores]) < 0.05


def test_classes_of_one_item_are_left_out_and_counted_but_stay_in_the_gallery():
    z = normalised(np.array([[1, 0], [0.6, 0.8], [0.9, 0.1]]))
    scores = evaluate_embeddings(z, [0, 0, 1], seed=0)  # the single item of class 1 is nearest to both others
    assert scores["queries"] == 2 and scores["queries_left_out"] == 1
    assert scores["recall@1"] == 0 and scores["recall@2"] == 1


def test_a_set_without_any_answer_is_refused():
    with pytest.raises(UserError, match="no class has two images"):
        evaluate_embeddings(normalised(np.random.default_rng(0).normal(size=(3, 4))), [0, 1, 2], seed=0)
