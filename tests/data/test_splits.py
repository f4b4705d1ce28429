"""Class-disjoint splits by a seed."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from saga_ray.data.splits import split_classes


@given(
    count=st.integers(1, 60), test=st.floats(0, 1), validation=st.floats(0, 1), seed=st.integers(-5, 2**70)
)
def test_every_class_has_one_part_and_shares_are_kept(
    count: int, test: float, validation: float, seed: int
) -> None:
    classes = [f"class {number}" for number in range(count)]
    part = split_classes(classes, test, validation, seed)
    sizes = {name: list(part.values()).count(name) for name in ("train", "validation", "test")}
    assert set(part) == set(classes) and sum(sizes.values()) == count
    assert sizes["train"] >= 1
    assert sizes["test"] == min(count - 1, max(int(test > 0), round(count * test)))
    assert sizes["validation"] <= round((count - sizes["test"]) * validation)
    assert part == split_classes(reversed(classes * 2), test, validation, seed)


def test_seeds_give_different_splits_and_a_new_class_moves_few() -> None:
    classes = [f"class {number}" for number in range(200)]
    one, two = (split_classes(classes, 0.5, 0.1, seed) for seed in (1, 2))
    assert 60 < sum(one[name] != two[name] for name in classes) < 180
    grown = split_classes([*classes, "late"], 0.5, 0.1, 1)
    assert sum(one[name] != grown[name] for name in classes) <= 3
