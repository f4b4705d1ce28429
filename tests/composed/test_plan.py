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
