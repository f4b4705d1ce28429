"""Ray Tune's searchers and schedulers, as a sweep's settings ask for them."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from ray import tune
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    PopulationBasedTraining,
    TrialScheduler,
)
from ray.tune.search import BasicVariantGenerator, Searcher

from saga_ray.config.points import points
from saga_ray.config.sweep import Choice, Range, SweepSettings, Values
from saga_ray.errors import UserError

POINT = "point"
"""Of a trial's configuration, where its values were chosen beforehand."""


def values_of(config: dict[str, Any]) -> Values:
    """A trial's values from its Tune configuration. PBT changes those beside the point."""
    point = dict(config.get(POINT, {}))
    return point | {name: value for name, value in config.items() if name != POINT}


def param_space(sweep: SweepSettings) -> dict[str, Any]:
    """What Tune draws from; nothing where Optuna suggests."""
    if sweep.searcher == "optuna":
        return {}
    if sweep.scheduler == "pbt":  # which changes values by their names
        return {name: _domain(each) for name, each in sweep.parameters.items() if isinstance(each, Range)}
    return {POINT: tune.grid_search(points(sweep))}


def searcher(sweep: SweepSettings) -> Searcher | BasicVariantGenerator | None:
    """None: Tune's own, for trials that are known beforehand."""
    if sweep.searcher != "optuna":
        return BasicVariantGenerator(max_concurrent=sweep.concurrency, random_state=sweep.seed)
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise UserError(
            "searcher=optuna needs the package optuna: install it, or set searcher=random"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    logging.getLogger("optuna").setLevel(logging.WARNING)
    return OptunaSearch(
        space=partial(_suggest, sweep),
        metric=sweep.metric,
        mode=sweep.mode,
        sampler=optuna.samplers.TPESampler(seed=sweep.seed, n_startup_trials=max(4, sweep.trials // 4)),
    )


def _suggest(sweep: SweepSettings, trial: Any) -> None:
    """Define by run: a parameter is suggested where those that it depends on have the values it needs."""
    known: Values = {}
    waiting = dict(sweep.parameters)
    while ready := [
        name for name, each in waiting.items() if not any(other in waiting for other in each.when)
    ]:
        for name in ready:
            parameter = waiting.pop(name)
            if all(known.get(other) == wanted for other, wanted in parameter.when.items()):
                known[name] = _suggest_one(trial, name, parameter)


def _suggest_one(trial: Any, name: str, parameter: Choice | Range) -> Any:
    if isinstance(parameter, Choice):
        return trial.suggest_categorical(name, parameter.values)
    if parameter.kind == "integer":
        return trial.suggest_int(name, int(parameter.low), int(parameter.high))
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.kind == "log-uniform")


def scheduler(sweep: SweepSettings, steps: int) -> TrialScheduler:
    """`steps`: of a trial that nobody stops."""
    match sweep.scheduler:
        case "asha":
            return AsyncHyperBandScheduler(
                time_attr="step",
                metric=sweep.metric,
                mode=sweep.mode,
                max_t=steps + 1,  # who reaches its last step ends by itself, and is finished
                grace_period=sweep.grace_steps,
                reduction_factor=sweep.reduction,
            )
        case "pbt":
            ranges = {name: each for name, each in sweep.parameters.items() if isinstance(each, Range)}
            return PopulationBasedTraining(
                time_attr="step",
                metric=sweep.metric,
                mode=sweep.mode,
                perturbation_interval=sweep.perturb_every,
                hyperparam_mutations={name: _domain(each) for name, each in ranges.items()},
                custom_explore_fn=partial(_within, ranges=ranges),
                synch=False,
            )
        case _:
            return FIFOScheduler()  # type: ignore[no-untyped-call]


def _domain(parameter: Range) -> Any:
    match parameter.kind:
        case "uniform":
            return tune.uniform(parameter.low, parameter.high)
        case "log-uniform":
            return tune.loguniform(parameter.low, parameter.high)
        case _:
            return tune.randint(int(parameter.low), int(parameter.high) + 1)


def _within(config: dict[str, Any], ranges: dict[str, Range]) -> dict[str, Any]:
    """PBT multiplies by 0.8 or 1.2, which may lead out of a range."""
    for name, each in ranges.items():
        value = min(max(config[name], each.low), each.high)
        config[name] = round(value) if each.kind == "integer" else value
    return config
