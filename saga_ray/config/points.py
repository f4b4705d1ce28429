"""Which values a trial has: drawn, or a point of a grid; what depends on others only where it applies."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from saga_ray.config.sweep import AnyParameter, SweepSettings, Values


def points(sweep: SweepSettings) -> list[Values]:
    """The trials of a sweep that knows them beforehand: a grid's, each `repeats` times with another seed, or
    as many random ones as there are trials.
    """
    if sweep.searcher == "grid":
        grid = grid_points(sweep)
        if sweep.repeats == 1:
            return grid
        return [{**point, "seed": seed} for seed in range(1, sweep.repeats + 1) for point in grid]
    return [draw(sweep, np.random.default_rng([sweep.seed, number])) for number in range(sweep.trials)]


def grid_points(sweep: SweepSettings) -> list[Values]:
    """Every combination of choices; those that differ only in what does not apply are one."""
    names = list(sweep.parameters)
    choices = [each.values for each in sweep.parameters.values() if each.kind == "choice"]
    found: list[Values] = []
    for combination in itertools.product(*choices):
        point = applying(sweep, dict(zip(names, combination, strict=True)))
        if point not in found:
            found.append(point)
    return found


def draw(sweep: SweepSettings, rng: np.random.Generator) -> Values:
    """A random point."""
    return applying(sweep, {name: _draw(parameter, rng) for name, parameter in sweep.parameters.items()})


def applying(sweep: SweepSettings, values: Mapping[str, Any]) -> Values:
    """The values whose conditions hold; a condition on what does not itself apply does not hold."""
    kept = dict(values)
    while True:
        lost = [
            name
            for name in kept
            if any(
                kept.get(other, _NOTHING) != wanted for other, wanted in sweep.parameters[name].when.items()
            )
        ]
        if not lost:
            return kept
        for name in lost:
            del kept[name]


_NOTHING = object()


def _draw(parameter: AnyParameter, rng: np.random.Generator) -> Any:
    if parameter.kind == "choice":
        return parameter.values[int(rng.integers(len(parameter.values)))]
    if parameter.kind == "integer":
        return int(rng.integers(int(parameter.low), int(parameter.high) + 1))
    if parameter.kind == "uniform":
        return float(rng.uniform(parameter.low, parameter.high))
    return float(math.exp(rng.uniform(math.log(parameter.low), math.log(parameter.high))))
