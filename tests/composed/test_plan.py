"""Batches of a stage: every example once an epoch, the same for any number of workers."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from saga_ray.composed.examples import Captioned, Triplet
from saga_ray.composed.plan import StagePlan


def triplets(count: int) -> StagePlan[Triplet]:
    examples = [Triplet(row, f"change {row}", targets=(100 + row, 200 + row)) for row in range(count)]
    return StagePlan(examples, "instruct", 6, 3, images=True)


@given(count=st.integers(2, 30), batch=st.integers(1, 40), seed=st.integers(0, 5))
def test_an_epoch_deals_every_example_once(count: int, batch: int, seed: int) -> None:
    plan = StagePlan([Captioned(row, str(row)) for row in range(count)], "align", batch, seed, False)
    dealt = [each.picture for id in range(3 * count) for each in plan.planned(id, 0, 1).own]
    for start in range(0, len(dealt) - count, count):
        assert Counter(dealt[start : start + count]) == Counter(range(count))


def test_orders_differ_by_epoch_seed_and_stage() -> None:
    orders = {
        tuple(each.picture for each in StagePlan(examples, stage, 8, seed, False).planned(id, 0, 1).own)
        for examples in [[Captioned(row, "") for row in range(8)]]
        for stage in ("align", "instruct")
        for seed in (1, 2)
        for id in (0, 1)
    }
    assert len(orders) == 8


def test_shares_of_workers_make_the_whole_batch() -> None:
    plan = triplets(10)
    for id in range(5):
        whole = plan.planned(id, 0, 1)
        for world in (2, 3):
            shares = [plan.planned(id, rank, world) for rank in range(world)]
            assert [each for share in shares for each in share.own] == list(whole.own)
            assert [row for share in shares for row in share.targets] == list(whole.targets)
            assert all(share.everything == whole.everything for share in shares)


def test_a_share_names_each_of_its_pictures_once() -> None:
    planned = triplets(4).planned(0, 0, 1)  # six places, four examples: two come twice
    assert len(planned.rows) == len(set(planned.rows))
    assert set(planned.rows) == {each.reference for each in planned.own} | set(planned.targets)
    assert all(row in each.targets for row, each in zip(planned.targets, planned.own, strict=True))


def test_both_targets_are_drawn() -> None:
    plan = triplets(6)
    drawn = {row // 100 for id in range(8) for row in plan.planned(id, 0, 1).targets}
    assert drawn == {1, 2}


@given(together=st.integers(1, 5), count=st.integers(2, 25), seed=st.integers(0, 3))
def test_triplets_of_a_group_stay_together_and_none_is_lost(together: int, count: int, seed: int) -> None:
    examples = [Triplet(row, "change", targets=(row,), group=f"group {row % 3}") for row in range(count)]
    plan = StagePlan(examples, "instruct", count, seed, images=True, together=together)
    dealt = plan.planned(0, 0, 1).own
    assert sorted(each.reference for each in dealt) == list(range(count))
    if together > 1:
        whole = [runs for runs in range(3) if len(examples[runs::3]) >= together]
        for group in whole:
            places = [place for place, each in enumerate(dealt) if each.reference % 3 == group]
            neighbours = sum(b - a == 1 for a, b in zip(places, places[1:], strict=False))
            assert neighbours >= (len(places) // together) * (together - 1)


def test_without_a_group_triplets_of_one_reference_are_together() -> None:
    examples = [Triplet(row // 4, f"change {row}", targets=(9,)) for row in range(16)]
    dealt = StagePlan(examples, "instruct", 16, 1, images=False, together=4).planned(0, 0, 1).own
    assert [len({each.reference for each in dealt[place : place + 4]}) for place in (0, 4, 8, 12)] == [1] * 4
