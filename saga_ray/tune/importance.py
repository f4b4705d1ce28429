"""How much each searched setting mattered: a guess from the trials that there are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance

from saga_ray.config.sweep import Choice, Range, SweepSettings
from saga_ray.tune.result import TrialResult

FEWEST = 8
"""Trials; of fewer nothing can be said."""


def importances(sweep: SweepSettings, trials: Sequence[TrialResult]) -> dict[str, float] | None:
    """Share of each parameter in what a random forest, fitted to the trials that have finished, loses when
    the parameter's values are permuted. None where there are too few trials or all are alike.
    """
    ended = [trial for trial in trials if trial.status == "finished" and trial.value is not None]
    names = list(sweep.parameters)
    if len(ended) < FEWEST:
        return None
    x_TP = np.array([[place(sweep, name, trial) for name in names] for trial in ended])
    y_T = np.array([trial.value for trial in ended])
    if float(y_T.std()) == 0:
        return None
    forest = RandomForestRegressor(n_estimators=200, random_state=0).fit(x_TP, y_T)
    lost: NDArray[np.float64] = permutation_importance(
        forest, x_TP, y_T, n_repeats=20, random_state=0
    ).importances_mean.clip(0)
    total = float(lost.sum())
    return dict(zip(names, (lost / total).tolist(), strict=True)) if total > 0 else None


def place(sweep: SweepSettings, name: str, trial: TrialResult) -> float:
    """Where a trial's value stands on its parameter's axis, in [0, 1]; -1 where it does not apply."""
    if name not in trial.values:
        return -1.0
    parameter, value = sweep.parameters[name], trial.values[name]
    if isinstance(parameter, Choice):
        return parameter.values.index(value) / max(1, len(parameter.values) - 1)
    return _along(parameter, float(value))


def _along(parameter: Range, value: float) -> float:
    if parameter.kind == "log-uniform":
        low, high, value = (math.log(each) for each in (parameter.low, parameter.high, value))
    else:
        low, high = parameter.low, parameter.high
    return (value - low) / (high - low)
