"""Which values trials have: in their ranges, repeatable, and only where they apply."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.config.points import applying, draw, grid_points, points
from saga_ray.config.sweep import SweepSettings

SPACE = {
    "metric.loss": {"kind": "choice", "values": ["infonce", "proxy_anchor"]},
    "metric.options.temperature": {
        "kind": "log-uniform",
        "low": 0.01,
        "high": 1.0,
        "when": {"metric.loss": "infonce"},
    },
    "grpo.informative_pairs": {"kind": "integer", "low": 2, "high": 5},
    "optimizer.beta1": {"kind": "uniform", "low": 0.8, "high": 0.9},
}


def sweep(parameters: dict[str, object], **changes: object) -> SweepSettings:
    return SweepSettings.model_validate({"parameters": parameters, "searcher": "random", **changes})


@given(st.integers(0, 10_000))
def test_a_random_point_is_in_its_ranges_and_has_what_applies(seed: int) -> None:
    point = draw(sweep(SPACE), np.random.default_rng(seed))
    assert ("metric.options.temperature" in point) == (point["metric.loss"] == "infonce")
    assert 0.01 <= point.get("metric.options.temperature", 0.01) <= 1.0
    assert point["grpo.informative_pairs"] in (2, 3, 4, 5) and isinstance(
        point["grpo.informative_pairs"], int
    )
    assert 0.8 <= point["optimizer.beta1"] <= 0.9


def test_a_log_uniform_parameter_is_even_in_its_logarithm() -> None:
    space = sweep({"grpo.weight": {"kind": "log-uniform", "low": 0.01, "high": 1.0}}, trials=2000)
    logs = np.log10([point["grpo.weight"] for point in points(space)])
    counts, _ = np.histogram(logs, bins=4, range=(-2, 0))
    assert counts.sum() == 2000 and counts.min() > 430


def test_trials_are_the_same_every_time_and_others_with_another_seed() -> None:
    assert points(sweep(SPACE, trials=5)) == points(sweep(SPACE, trials=5))
    assert points(sweep(SPACE, trials=5))[:3] == points(sweep(SPACE, trials=3))
    assert points(sweep(SPACE, trials=5)) != points(sweep(SPACE, trials=5, seed=2))


def test_a_grid_has_every_combination_once_and_repeats_have_seeds() -> None:
    grid = {
        "metric.loss": {"kind": "choice", "values": ["infonce", "proxy_anchor"]},
        "metric.options.alpha": {
            "kind": "choice",
            "values": [16, 32],
            "when": {"metric.loss": "proxy_anchor"},
        },
        "grpo.weight": {"kind": "choice", "values": [0.1, 1.0]},
    }
    space = sweep(grid, searcher="grid", repeats=2)
    alone = grid_points(space)
    assert len(alone) == 2 * (1 + 2) and all(alone.count(point) == 1 for point in alone)
    assert [point for point in points(space) if point["seed"] == 2] == [p | {"seed": 2} for p in alone]


def test_a_condition_on_what_does_not_apply_does_not_hold() -> None:
    chain = {
        "a.b": {"kind": "choice", "values": [1, 2]},
        "c.d": {"kind": "choice", "values": [1, 2], "when": {"a.b": 1}},
        "e.f": {"kind": "choice", "values": [1, 2], "when": {"c.d": 1}},
    }
    space = sweep(chain)
    assert applying(space, {"a.b": 1, "c.d": 1, "e.f": 2}) == {"a.b": 1, "c.d": 1, "e.f": 2}
    assert applying(space, {"a.b": 2, "c.d": 1, "e.f": 2}) == {"a.b": 2}
