from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.train.schedule import rate_factor, step_progress


def test_rate_rises_over_the_warmup_and_falls_to_zero_by_half_a_cosine() -> None:
    assert rate_factor(0.025, 0.05) == pytest.approx(0.5)
    assert rate_factor(0.05, 0.05) == pytest.approx(1.0)
    assert rate_factor(0.525, 0.05) == pytest.approx(0.5)
    assert rate_factor(1.0, 0.05) == pytest.approx(0.0)


@given(steps=st.integers(1, 500), warmup=st.floats(0.0, 0.9))
def test_every_step_has_a_rate_above_zero_and_at_most_the_base_rate(steps: int, warmup: float) -> None:
    for step in range(steps):
        factor = rate_factor(step_progress(step, steps), warmup)
        assert 0 < factor <= 1 and math.isfinite(factor)
