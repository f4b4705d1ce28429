"""The leave-one-out protocol as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.errors import UserError
from saga_ray.retrieval.evaluation import evaluate_embeddings, retrieval_measures

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


# Queries that search a gallery of their own ---------------------------------------------------------------

RECALL_AT = (1, 10, 20, 30, 40, 50)


def naive(z: np.ndarray, label: np.ndarray, roles: list[str]) -> dict[str, float]:
    """One query after the other, over its whole sorted gallery."""
    gallery = [row for row, role in enumerate(roles) if role == "gallery"]
    each: list[dict[str, float]] = []
    left_out = 0
    for query in (row for row, role in enumerate(roles) if role == "query"):
        hits = [
            label[row] == label[query] for row in sorted(gallery, key=lambda row: -float(z[query] @ z[row]))
        ]
        r = sum(hits)
        if r == 0:
            left_out += 1
            continue
        precision = [sum(hits[: place + 1]) / (place + 1) for place in range(r)]
        each.append({f"recall@{k}": float(any(hits[:k])) for k in RECALL_AT})
        each[-1]["r_precision"] = sum(hits[:r]) / r
        each[-1]["map@r"] = sum(p for p, hit in zip(precision, hits, strict=False) if hit) / r
    means = {name: float(np.mean([one[name] for one in each])) for name in each[0]}
    return means | {"queries": len(each), "queries_left_out": left_out}


@settings(max_examples=60, deadline=None)
@given(
    roles=st.lists(st.sampled_from(["query", "gallery", ""]), min_size=4, max_size=90),
    classes=st.integers(1, 9),
    seed=st.integers(0, 2**32 - 1),
)
def test_queries_search_the_gallery_alone(roles: list[str], classes: int, seed: int) -> None:
    roles = ["query", "gallery", *roles]
    rng = np.random.default_rng(seed)
    label = rng.integers(0, classes, len(roles))
    label[1] = label[0]  # one query has an answer
    z = normalised(rng.normal(size=(len(roles), 6)) + np.eye(classes, 6)[label])
    scores = retrieval_measures(z, label, seed=seed, roles_M=roles)
    assert scores == pytest.approx(naive(z, label, roles))


def test_no_query_is_a_candidate() -> None:
    z = normalised(np.array([[1, 0], [1, 0.01], [0, 1], [0.02, 1]]))
    label = ["shirt", "shirt", "shirt", "coat"]
    roles = ["query", "query", "gallery", "gallery"]  # the queries are nearest to each other
    scores = evaluate_embeddings(z, label, seed=0, roles_M=roles)
    assert set(scores) == KEYS - {"recall@2", "recall@4", "recall@8"} | {f"recall@{k}" for k in RECALL_AT}
    assert scores["queries"] == 2 and scores["recall@1"] == 0 and scores["recall@10"] == 1


def test_roles_without_a_query_leave_one_out() -> None:
    rng = np.random.default_rng(2)
    z, label = normalised(rng.normal(size=(12, 4))), np.repeat([0, 1, 2], 4)
    plain = retrieval_measures(z, label, seed=0)
    assert retrieval_measures(z, label, seed=0, roles_M=[""] * 12) == plain
    assert set(plain) == KEYS - {"nmi"}


def test_a_collapsed_encoder_gains_nothing_from_the_order_of_the_gallery() -> None:
    label = np.concatenate([np.arange(50), np.repeat(np.arange(50), 4)])
    roles = ["query"] * 50 + ["gallery"] * 200
    z = np.repeat(normalised(np.ones((1, 8))), 250, axis=0)
    found = [retrieval_measures(z, label, seed=seed, roles_M=roles)["recall@1"] for seed in range(10)]
    assert np.mean(found) < 0.05  # 0.02 by chance


def test_a_gallery_without_any_answer_is_refused() -> None:
    z = normalised(np.random.default_rng(0).normal(size=(3, 4)))
    with pytest.raises(UserError, match="no query has an image of its class in the gallery"):
        evaluate_embeddings(z, [0, 0, 1], seed=0, roles_M=["query", "query", "gallery"])
