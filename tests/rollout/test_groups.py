"""Acceptance in plan order: what is accepted never depends on timing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.rollout.groups import Completion, Group, PlanOrderAcceptance


def group(rewards: list[float]) -> Group:
    completions = [Completion([1, 2], "x", [-0.1, -0.2], "stop", seed) for seed in range(len(rewards))]
    return Group(0, True, completions, rewards, [False] * len(rewards), encoder_version=0, prompt_tokens=3)


@pytest.mark.parametrize(
    "rewards, informative", [([0, 0, 0], False), ([1, 1], False), ([0, 1, 0], True), ([1], False)]
)
def test_a_group_is_informative_where_rewards_differ(rewards, informative):
    assert group(rewards).informative is informative


def test_a_pair_is_accepted_once_all_before_it_have_arrived():
    acceptance = PlanOrderAcceptance(wanted=2)
    acceptance.open_round(range(5))
    assert acceptance.feed(3, True) == []
    assert acceptance.feed(1, True) == []
    assert acceptance.cancellable() == [4]  # two informative pairs precede it already
    assert acceptance.feed(0, False) == [1]
    assert acceptance.awaited() == [2]
    assert acceptance.feed(2, True) == [2]
    assert acceptance.done and acceptance.accepted == [1, 2] and acceptance.cancellable() == [4]
    assert acceptance.feed(4, True) == []
    assert acceptance.accepted == [1, 2]


def test_a_round_with_too_few_informative_pairs_needs_another_and_k_counts_over_all():
    acceptance = PlanOrderAcceptance(wanted=3)
    acceptance.open_round([10, 11, 12])
    assert not acceptance.needs_round
    assert [acceptance.feed(pair, pair != 11) for pair in (12, 11, 10)] == [[], [], [10, 12]]
    assert acceptance.needs_round and not acceptance.done
    acceptance.open_round([20, 21, 22])
    assert not acceptance.needs_round
    assert acceptance.feed(21, True) == []
    assert acceptance.feed(20, False) == [21]
    assert acceptance.done and not acceptance.needs_round and acceptance.cancellable() == [22]


def test_a_step_without_any_informative_pair_ends_with_none():
    acceptance = PlanOrderAcceptance(wanted=2)
    acceptance.open_round(range(3))
    assert [acceptance.feed(pair, False) for pair in (2, 0, 1)] == [[], [], []]
    assert acceptance.needs_round and acceptance.accepted == [] and acceptance.cancellable() == []


@pytest.mark.parametrize("pair", [5, 0])
def test_a_pair_outside_the_plan_or_fed_twice_is_a_programming_error(pair):
    acceptance = PlanOrderAcceptance(wanted=1)
    acceptance.open_round(range(3))
    acceptance.feed(0, False)
    with pytest.raises(AssertionError):
        acceptance.feed(pair, True)


@st.composite
def steps(draw):
    """A plan in rounds, which of its pairs are informative, K, and two orders of arrival in every round."""
    informative = draw(st.lists(st.booleans(), min_size=1, max_size=24))
    pairs = sorted(draw(st.sets(st.integers(0, 99), min_size=len(informative), max_size=len(informative))))
    cuts = sorted(draw(st.sets(st.integers(1, len(pairs)), max_size=3)) | {0, len(pairs)})
    rounds = [pairs[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    wanted = draw(st.integers(1, 10))
    orders = [[draw(st.permutations(pairs)) for pairs in rounds] for _ in range(2)]
    return dict(zip(pairs, informative, strict=True)), rounds, wanted, orders


@given(steps(), st.booleans())
def test_what_is_accepted_is_the_first_k_of_the_plan_in_every_order_of_arrival(step, cancel):
    informative, rounds, wanted, orders = step
    for order in orders:
        acceptance, yielded = PlanOrderAcceptance(wanted), []
        for pairs, arrivals in zip(rounds, order, strict=True):
            if acceptance.done:
                break
            acceptance.open_round(pairs)
            for pair in arrivals:
                if cancel and pair in acceptance.cancellable():
                    continue  # a cancelled pair never arrives
                yielded += acceptance.feed(pair, informative[pair])
                assert not (acceptance.done and acceptance.awaited())
        assert yielded == acceptance.accepted == [pair for pair in informative if informative[pair]][:wanted]


@given(steps())
def test_a_cancelled_pair_is_never_one_that_would_have_been_accepted(step):
    informative, rounds, wanted, orders = step
    accepted = set([pair for pair in informative if informative[pair]][:wanted])
    acceptance = PlanOrderAcceptance(wanted)
    for pairs in rounds:  # all rounds opened beforehand
        acceptance.open_round(pairs)
    for pair in (pair for arrivals in reversed(orders[0]) for pair in arrivals):
        assert not accepted & set(acceptance.cancellable())
        acceptance.feed(pair, informative[pair])
    assert set(acceptance.accepted) == accepted
