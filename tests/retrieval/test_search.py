"""Exact search: against a sort, with duplicates, with ties, and on input that is not fit to search."""

from __future__ import annotations

import numpy as np
import pytest

from saga_ray.errors import UserError
from saga_ray.retrieval import search
from saga_ray.retrieval.metrics import judge, map_at_r, recall_at
from saga_ray.retrieval.search import nearest


def sphere(items: int, width: int = 16, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(items, width)).astype(np.float32)
    return z / np.linalg.norm(z, axis=1, keepdims=True)


def test_neighbours_are_those_of_a_full_sort():
    query, gallery = sphere(30, seed=1), sphere(200, seed=2)
    rows, scores = nearest(query, gallery, 12)
    similarity = query.astype(np.float64) @ gallery.T
    assert np.array_equal(rows, np.argsort(-similarity, axis=1)[:, :12])
    np.testing.assert_allclose(scores, -np.sort(-similarity, axis=1)[:, :12], atol=1e-6)


def test_the_query_itself_is_left_out_by_its_row_and_not_by_its_rank():
    z = sphere(40)
    z[20:] = z[:20]  # every item has an exact duplicate, which may well rank before the item itself
    rows, scores = nearest(z, z, 5, exclude=np.arange(40))
    assert not (rows == np.arange(40)[:, None]).any()
    assert np.array_equal(rows[:, 0], (np.arange(40) + 20) % 40)
    np.testing.assert_allclose(scores[:, 0], 1, atol=1e-5)


def test_a_query_set_may_be_a_part_of_the_gallery():
    z, own = sphere(50), np.array([7, 31, 2])
    rows, _ = nearest(z[own], z, 49, exclude=own)
    for row, left_out in zip(rows, own, strict=True):
        assert sorted(row) == [item for item in range(50) if item != left_out]


def test_more_neighbours_than_candidates_gives_all_candidates():
    z = sphere(6)
    assert nearest(z, z, 8, exclude=np.arange(6))[0].shape == (6, 5)
    assert nearest(z, z, 8)[0].shape == (6, 6)


def test_chunks_do_not_change_the_result(monkeypatch):
    z = sphere(100)
    whole = nearest(z, z, 7, exclude=np.arange(100))
    monkeypatch.setattr(search, "QUERIES_AT_ONCE", 13)
    parts = nearest(z, z, 7, exclude=np.arange(100))
    assert np.array_equal(whole[0], parts[0])


def test_ties_are_the_same_for_a_seed_and_differ_between_seeds():
    z = np.repeat(sphere(1), 50, axis=0)
    first, again, other = (nearest(z, z, 10, exclude=np.arange(50), seed=seed)[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_positives_that_stand_first_gain_nothing_where_all_scores_are_equal():
    gallery = np.repeat(sphere(1), 400, axis=0)
    label = np.arange(400) >= 40  # the first 40 rows, a tenth, are the query's class
    scores = []
    for seed in range(50):
        rows, _ = nearest(gallery[:1], gallery, 40, seed=seed)
        judged = judge(rows, [False], label)
        scores.append((recall_at(judged, 1), map_at_r(judged)))
    recall, precision = np.mean(scores, axis=0)
    assert recall < 0.25  # 0.1 by chance, 1 if the given order decided
    assert precision < 0.04  # about 0.02 by chance


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_embeddings_that_are_not_finite_are_refused_with_their_row(bad):
    z = sphere(5)
    z[3, 2] = bad
    with pytest.raises(UserError, match="1 of 5 gallery embeddings.*row 3"):
        nearest(sphere(2), z, 1)


def test_embeddings_that_are_not_normalised_are_refused():
    with pytest.raises(UserError, match="not L2-normalised"):
        nearest(sphere(2) * 2, sphere(5), 1)


def test_embeddings_in_half_precision_are_accepted():
    z = sphere(20)
    assert np.array_equal(nearest(z.astype(np.float16), z, 1)[0][:, 0], np.arange(20))


def test_queries_of_another_encoder_are_refused():
    with pytest.raises(UserError, match="width 8, gallery 16"):
        nearest(sphere(2, width=8), sphere(5), 1)


def test_a_gallery_that_holds_the_query_alone_is_refused():
    with pytest.raises(UserError, match="no item"):
        nearest(sphere(1), sphere(1), 1, exclude=[0])
