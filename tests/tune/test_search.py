"""What Ray Tune is given to search with."""

from __future__ import annotations

import pickle

import optuna
import pytest

from saga_ray.config.sweep import resolve_sweep, space_names
from saga_ray.tune.search import scheduler, searcher


@pytest.mark.parametrize("name", space_names())
def test_tune_can_keep_searcher_and_scheduler_in_its_files(name: str) -> None:
    sweep = resolve_sweep(name)
    pickle.dumps(getattr(searcher(sweep), "_space", None))
    pickle.dumps(scheduler(sweep, steps=120))


def test_pbt_s_scheduler_can_be_kept_too() -> None:
    changes = ["searcher=random", "scheduler=pbt", "concurrency=4", "trials=4"]
    pickle.dumps(scheduler(resolve_sweep("furniture_sweep", changes), steps=10))


def test_optuna_suggests_what_applies_within_its_range() -> None:
    search = searcher(resolve_sweep("metric_loss"))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(30):
        trial = study.ask()
        search._space(trial)  # type: ignore[union-attr]
        alpha, loss = trial.params.get("metric.options.alpha"), trial.params["metric.loss"]
        assert (alpha is not None) == (loss == "proxy_anchor")
        assert alpha is None or 8 <= alpha <= 64
