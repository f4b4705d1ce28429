"""Rankings and measures against naive ones, with ties; what no order of a gallery may change."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.composed.benchmarks import Benchmark, Gallery, Picture, Query, rank
from saga_ray.composed.benchmarks.base.measures import average_precision_at, is_found, recalls
from saga_ray.composed.benchmarks.base.ranking import DEPTH
from saga_ray.errors import UserError

SMALL_SCORES = st.lists(st.integers(-2, 2), min_size=1, max_size=80)
"""Few values, so that most are ties."""


def asked(pictures: list[str], **query: object) -> tuple[Benchmark, Query]:
    """A benchmark of one query over pictures of these ids, in this order."""
    shown = [Picture(each, f"{each}.jpg") for each in pictures]
    gallery = Gallery("all", tuple(shown))
    one = Query("q", "all", Picture("reference", "r.jpg"), ("red",), **query)  # type: ignore[arg-type]
    return Benchmark("circo", "val", "standard", {"all": gallery}, (one,), (), {}), one


def ids(count: int) -> list[str]:
    return [f"p{number}" for number in range(count)]


@given(SMALL_SCORES, st.integers(0, 3))
def test_a_ranking_is_a_sort_by_score(scores: list[int], seed: int) -> None:
    benchmark, query = asked(ids(len(scores)))
    nearest = rank(benchmark, query, scores, seed=seed).nearest
    assert len(set(nearest)) == len(nearest) == min(DEPTH, len(scores))
    assert [scores[int(each[1:])] for each in nearest] == sorted(scores, reverse=True)[:DEPTH]


@given(SMALL_SCORES, st.randoms(use_true_random=False))
def test_the_order_of_the_gallery_changes_nothing(scores: list[int], random: object) -> None:
    names, order = ids(len(scores)), list(range(len(scores)))
    random.shuffle(order)  # type: ignore[attr-defined]
    before, query = asked(names, members=tuple(names[:5]))
    after, _ = asked([names[row] for row in order])
    assert rank(before, query, scores) == rank(after, query, [scores[row] for row in order])


@given(st.integers(2, 12), st.data())
def test_the_order_of_the_candidates_and_of_the_target_changes_nothing(
    count: int, data: st.DataObject
) -> None:
    names = ids(20)
    candidates = data.draw(st.permutations(names))[:count]
    first, query = asked(names, candidates=tuple(candidates))
    _, last = asked(names, candidates=tuple(reversed(candidates)))
    assert rank(first, query, np.ones(20)) == rank(first, last, np.ones(20))


@given(st.integers(2, 60), st.data())
def test_what_is_left_out_is_never_ranked_and_a_subset_is_ranked_by_the_same_scores(
    count: int, data: st.DataObject
) -> None:
    names = ids(count)
    members = data.draw(st.permutations(names))[:5]
    benchmark, query = asked(names, left_out=("p0", "not in the gallery"), members=tuple(members))
    scores = {each: data.draw(st.integers(0, 3)) for each in names}
    ranking = rank(benchmark, query, [scores[each] for each in names])
    assert "p0" not in ranking.nearest and len(ranking.nearest) == min(DEPTH, count - 1)
    assert sorted(ranking.members) == sorted(members)
    assert [scores[each] for each in ranking.members] == sorted(
        (scores[each] for each in members), reverse=True
    )


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 1), min_size=2, max_size=5), st.data())
def test_measures_under_ties_are_on_average_those_of_all_orders_of_the_ties(
    scores: list[int], data: st.DataObject
) -> None:
    names = ids(len(scores))
    right = tuple(data.draw(st.sets(st.sampled_from(names), min_size=1)))
    k = data.draw(st.integers(1, len(names)))
    score = dict(zip(names, scores, strict=True))
    orders = [
        order
        for order in permutations(names)
        if [score[each] for each in order] == sorted(scores, reverse=True)
    ]
    benchmark, query = asked(names)
    drawn = [rank(benchmark, query, scores, seed=seed).nearest for seed in range(400)]
    for measure in (is_found, average_precision_at):
        expected = [measure(order, right, k) for order in orders]
        found = np.mean([measure(ranking, right, k) for ranking in drawn])
        assert found == pytest.approx(np.mean(expected), abs=4 * np.std(expected) / 400**0.5 + 1e-9)


def test_ties_are_drawn_anew_for_each_query_and_seed() -> None:
    benchmark, query = asked(ids(60))
    other = Query("another", "all", query.reference, ("red",))
    same = np.zeros(60)
    assert rank(benchmark, query, same, seed=1) == rank(benchmark, query, same, seed=1)
    assert rank(benchmark, query, same, seed=1) != rank(benchmark, query, same, seed=2)
    assert rank(benchmark, query, same).nearest != rank(benchmark, other, same).nearest


def test_a_constant_scorer_finds_each_place_equally_often() -> None:
    benchmark, query = asked(ids(120))
    hits = [
        "p0" in rank(benchmark, query, np.zeros(120, dtype=np.float16), seed=seed).nearest
        for seed in range(2000)
    ]
    assert np.mean(hits) == pytest.approx(DEPTH / 120, abs=4 * (0.25 / 2000) ** 0.5)


@given(st.lists(st.booleans(), min_size=1, max_size=12), st.integers(1, 4))
def test_average_precision_equals_a_loop_over_places(hits: list[bool], more: int) -> None:
    ranking = ids(len(hits))
    right = [each for each, hit in zip(ranking, hits, strict=True) if hit] + [f"x{n}" for n in range(more)]
    for k in range(1, len(hits) + 3):
        total = sum(sum(hits[: place + 1]) / (place + 1) for place in range(min(k, len(hits))) if hits[place])
        assert average_precision_at(ranking, right, k) == pytest.approx(total / min(len(right), k))


@given(st.permutations(ids(12)), st.sets(st.sampled_from(ids(12)), min_size=1))
def test_recall_grows_with_k(order: list[str], right: set[str]) -> None:
    benchmark, query = asked(ids(12), targets=tuple(right))
    ranking = rank(benchmark, query, [order.index(each) for each in ids(12)])
    found = list(recalls([(query, ranking)], range(1, 13)).values())
    assert found == sorted(found) and found[-1] == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    benchmark, query = asked(ids(3))
    with pytest.raises(UserError, match="1 scores of query q are NaN or infinite .* picture p1"):
        rank(benchmark, query, [0, bad, 1])


def test_scores_of_another_gallery_are_a_mistake() -> None:
    benchmark, query = asked(ids(3))
    with pytest.raises(AssertionError):
        rank(benchmark, query, [0, 1])
    with pytest.raises(AssertionError, match="has an id twice"):
        asked(["p0", "p0"])
