"""The plan: pure, even, cut over workers without parting a pair, half same and half different."""

from __future__ import annotations

from collections import Counter
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.config.settings import DataSettings
from saga_ray.data.hard import deal, gather
from saga_ray.data.pairs import draw_pairs
from saga_ray.data.plan import MicroBatch, Plan, plan_for
from saga_ray.data.rotation import Rotation
from saga_ray.data.seeds import generator
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError


def data(**values: Any) -> DataSettings:
    return DataSettings(**values)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    blocks = draw(st.sampled_from([1, 2, 3, 4, 6]))
    per_block = draw(st.integers(2, 5))
    per_class = draw(st.integers(2, 4))
    classes = blocks * per_block + draw(st.integers(0, 12))
    sizes = draw(st.lists(st.integers(per_class, 9), min_size=classes, max_size=classes))
    labels = np.repeat(np.arange(classes), sizes)
    np.random.default_rng(draw(st.integers(0, 9))).shuffle(labels)
    most = min(per_block * per_class * (per_class - 1) // 2, per_block * (per_block - 1) // 2 * per_class**2)
    half = draw(st.integers(1, most))
    hard = draw(st.sampled_from([0.0, 0.5, 1.0]))
    groups = [f"g{label % 3}" for label in range(classes)]
    chosen = data(
        classes_per_batch=blocks * per_block,
        images_per_class=per_class,
        pairs_per_batch=2 * blocks * half,
        blocks=blocks,
        hard_negative_share=hard,
        hard_negative_column="kind",
    )
    return Plan(labels, chosen, draw(st.integers(-3, 10**12)), groups)


@given(plan=plans(), id=st.integers(0, 200))
@settings(max_examples=60, deadline=None)
def test_a_micro_batch_is_well_formed(plan: Plan, id: int) -> None:
    chosen = plan.settings
    batch = plan.micro_batch(id)
    assert batch == plan.micro_batch(id)
    per_class, blocks = chosen.images_per_class, chosen.blocks
    assert len(set(batch.rows)) == len(batch.rows) == chosen.classes_per_batch * per_class
    assert Counter(batch.labels) == dict.fromkeys(batch.labels, per_class)
    size = len(batch.rows) // blocks
    assert [pair.index for pair in batch.pairs] == list(range(chosen.pairs_per_batch))
    assert len({frozenset((pair.a, pair.b)) for pair in batch.pairs}) == chosen.pairs_per_batch
    for pair in batch.pairs:
        assert pair.a != pair.b
        assert pair.a // size == pair.b // size == pair.block, "no pair crosses two blocks"
        assert pair.same == (batch.labels[pair.a] == batch.labels[pair.b])
    kinds = Counter((pair.block, pair.same) for pair in batch.pairs)
    half = chosen.pairs_per_batch // (2 * blocks)
    assert kinds == {(block, same): half for block in range(blocks) for same in (True, False)}
    for first in range(1, chosen.pairs_per_batch + 1):
        head = batch.pairs[:first]
        same = sum(pair.same for pair in head)
        assert abs(2 * same - first) <= 2
        per_block = Counter(pair.block for pair in head)
        assert max(per_block.values()) - min(per_block[block] for block in range(blocks)) <= 1


@given(plan=plans(), id=st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_shares_cut_pictures_and_pairs_without_loss(plan: Plan, id: int) -> None:
    batch = plan.micro_batch(id)
    for world in (world for world in range(1, batch.blocks + 1) if batch.blocks % world == 0):
        shares = [batch.share(rank, world) for rank in range(world)]
        assert tuple(row for share in shares for row in share.rows) == batch.rows
        assert tuple(label for share in shares for label in share.labels) == batch.labels
        assert [share.start for share in shares] == [0, *(share.stop for share in shares[:-1])]
        pairs = sorted((pair for share in shares for pair in share.pairs), key=lambda pair: pair.index)
        assert len(pairs) == len(batch.pairs)
        for share in shares:
            assert [pair.index for pair in share.pairs] == sorted(pair.index for pair in share.pairs)
            for pair in share.pairs:
                whole = batch.pairs[pair.index]
                assert (pair.a_local + share.start, pair.b_local + share.start) == (whole.a, whole.b)
                assert share.rows[pair.a_local] == batch.rows[whole.a]
                assert (pair.same, pair.block) == (whole.same, whole.block)


@given(count=st.integers(1, 30), take=st.integers(1, 30), hands=st.integers(1, 60), seed=st.integers())
@settings(max_examples=60, deadline=None)
def test_rotation_draws_all_things_equally_often(count: int, take: int, hands: int, seed: int) -> None:
    take = min(take, count)
    rotation = Rotation(count, take, (seed, "test"))
    drawn = np.zeros(count, dtype=int)
    for number in range(hands):
        if number % rotation.hands == 0:
            assert (drawn == rotation.draws_before(number // rotation.hands)).all()
            before = drawn.copy()
            assert np.ptp(drawn) <= 1, "at the end of a round"
        hand = rotation.hand(number)
        assert len(set(hand.tolist())) == take
        np.add.at(drawn, hand, 1)
        assert (drawn - before).max() == 1, "nothing twice in a round"


def test_epochs_use_every_class_and_every_picture_evenly() -> None:
    labels = np.repeat(np.arange(11), [2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4])
    plan = Plan(labels, data(classes_per_batch=4, images_per_class=2, pairs_per_batch=4, blocks=2), seed=5)
    assert plan.micro_batches_per_epoch == 2
    epochs = 11 * 4
    rows: Counter[int] = Counter()
    classes: Counter[int] = Counter()
    for id in range(2 * epochs):
        batch = plan.micro_batch(id)
        assert batch.epoch == id // 2
        rows.update(batch.rows)
        classes.update(set(batch.labels))
    assert set(classes.values()) == {epochs * 8 // 11}
    for label in range(11):
        of_class = [rows[row] for row in np.flatnonzero(labels == label)]
        assert max(of_class) - min(of_class) <= 2, "one for the cycle under way"


def test_seeds_and_epochs_give_different_plans() -> None:
    labels = np.repeat(np.arange(16), 4)
    one, two = (Plan(labels, data(), seed) for seed in (1, 2))
    assert one.micro_batches_per_epoch == 1
    assert len({batch.rows for plan in (one, two) for batch in map(plan.micro_batch, range(4))}) == 8


def test_same_pairs_come_from_as_many_classes_as_possible() -> None:
    chosen = data(classes_per_batch=8, images_per_class=3, pairs_per_batch=2 * 11, blocks=1)
    batch = Plan(np.repeat(np.arange(8), 3), chosen, seed=0).micro_batch(0)
    count = Counter(batch.labels[pair.a] for pair in batch.pairs if pair.same)
    assert sorted(count.values()) == [1] * 5 + [2] * 3


def test_both_orders_of_a_pair_occur() -> None:
    plan = Plan(np.repeat(np.arange(16), 4), data(), seed=0)
    pairs = [pair for id in range(40) for pair in plan.micro_batch(id).pairs]
    assert 0.4 < np.mean([pair.a < pair.b for pair in pairs]) < 0.6


def is_hard(batch: MicroBatch, pair: Any, groups: list[str]) -> bool:
    return not pair.same and groups[batch.labels[pair.a]] == groups[batch.labels[pair.b]]


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_hard_negatives_agree_on_the_column_and_are_counted(share: float) -> None:
    groups = [f"g{label // 4}" for label in range(60)]
    chosen = data(hard_negative_share=share, hard_negative_column="kind", pairs_per_batch=32)
    plan = Plan(np.repeat(np.arange(60), 3), chosen, seed=1, hard_groups=groups)
    hard = missing = 0
    for id in range(30):
        batch = plan.micro_batch(id)
        found = sum(is_hard(batch, pair, groups) for pair in batch.pairs)
        # pairs drawn at random may be hard by chance
        assert found >= 16 * share - batch.hard_missing
        hard, missing = hard + found, missing + batch.hard_missing
    assert missing == 0
    assert share - 0.01 <= hard / (30 * 16) <= share + 0.15


def test_hard_negatives_that_do_not_exist_are_replaced_and_counted() -> None:
    labels = [label for label in range(4) for _ in range(2)]
    chosen = data(
        classes_per_batch=4,
        pairs_per_batch=8,
        blocks=1,
        hard_negative_share=1.0,
        hard_negative_column="kind",
    )
    pairs, missing = draw_pairs(labels, chosen, ["a", "b", "c", "d"], generator(0))
    assert missing == 4 and len(pairs) == 8
    pairs, missing = draw_pairs(labels, chosen, ["", "", "", ""], generator(0))
    assert missing == 4, "an unknown value is no group"
    pairs, missing = draw_pairs(labels, chosen, ["a", "a", "c", "d"], generator(0))
    assert missing == 0
    assert {frozenset((labels[p.a], labels[p.b])) for p in pairs if not p.same} == {frozenset((0, 1))}


@given(
    groups=st.lists(st.sampled_from(["", "a", "b", "c"]), min_size=12, max_size=12),
    blocks=st.sampled_from([1, 2, 3, 4]),
)
def test_twos_stand_together_in_the_epoch_and_in_blocks(groups: list[str], blocks: int) -> None:
    order = list(range(12))[::-1]
    count = sum(Counter(groups)[group] // 2 for group in "abc")
    gathered = gather(order, groups, generator(0))
    assert sorted(gathered) == sorted(order)
    assert twos_in(gathered, groups) >= count
    dealt = deal(gathered, groups, blocks)
    assert sorted(dealt) == sorted(order)
    size = 12 // blocks
    parts = [dealt[start : start + size] for start in range(0, 12, size)]
    together = sum(Counter(groups[label] for label in part)[group] // 2 for part in parts for group in "abc")
    room = blocks * (size // 2)
    assert together >= min(count, room)
    if count >= blocks and size > 1:
        assert all(len({groups[label] for label in part if groups[label]}) < size for part in parts)


def twos_in(order: list[int], groups: list[str]) -> int:
    place, found = 0, 0
    while place + 1 < len(order):
        is_two = groups[order[place]] == groups[order[place + 1]] != ""
        found, place = found + is_two, place + 1 + is_two
    return found


def test_plan_for_a_table_takes_its_column(table: ImageTable) -> None:
    chosen = data(hard_negative_share=0.5, hard_negative_column="kind")
    plan = plan_for(table, chosen, seed=0)
    assert plan.hard_groups == [f"kind{label % 4}" for label in range(20)]
    assert plan_for(table, data(), seed=0).hard_groups is None
    with pytest.raises(UserError, match=r"hard_negative_column='colour' .* it has kind"):
        plan_for(table, data(hard_negative_share=0.5, hard_negative_column="colour"), seed=0)


@pytest.mark.parametrize(
    ("sizes", "values", "words"),
    [
        ([], {}, "no training pictures"),
        ([9], {}, "one class, 'class 0'"),
        ([3] * 15, {}, "classes_per_batch=16 .* the 15"),
        ([3] * 20 + [1, 1], {}, r"class 'class 20' has \(1\); 2 of 22"),
        ([3] * 20, {"images_per_class": 4}, r"images_per_class=4 .* 'class 0' has \(3\); 20 of 20"),
        ([3] * 20, {"pairs_per_batch": 64}, "16 same-class pairs in each of 2 blocks.* 8; lower it to 32"),
        (
            [9] * 4,
            {"classes_per_batch": 4, "images_per_class": 9, "pairs_per_batch": 400},
            "100 same-class .* make 72; .* to 288",
        ),
        (
            [9] * 2,
            {"classes_per_batch": 2, "images_per_class": 2, "pairs_per_batch": 4, "blocks": 1},
            "",
        ),
    ],
)
def test_what_the_data_cannot_give_is_said_with_numbers(
    sizes: list[int], values: dict[str, Any], words: str
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    names = [f"class {label}" for label in range(len(sizes))]
    if not words:
        Plan(labels, data(**values), seed=0, classes=names)
        return
    with pytest.raises(UserError, match=words):
        Plan(labels, data(**values), seed=0, classes=names)


def test_every_possible_pair_can_be_asked_for() -> None:
    chosen = data(classes_per_batch=4, images_per_class=4, pairs_per_batch=48, blocks=1)
    batch = Plan(np.repeat(np.arange(4), 4), chosen, seed=0).micro_batch(3)
    same = {frozenset((a, b)) for a, b in combinations(range(16), 2) if batch.labels[a] == batch.labels[b]}
    assert {frozenset((pair.a, pair.b)) for pair in batch.pairs if pair.same} == same
