"""The files of sweeps: those that ship are right, and what is wrong in one is said before anything starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saga_ray.config.overrides import resolve
from saga_ray.config.points import points
from saga_ray.config.presets import to_toml
from saga_ray.config.searched import last_trained
from saga_ray.config.sweep import corners, preset_settings, resolve_sweep, space_names, trial_settings
from saga_ray.errors import UserError


@pytest.mark.parametrize("name", space_names())
def test_a_space_that_ships_gives_runs_that_can_be_started(name: str) -> None:
    sweep = resolve_sweep(name)
    assert sweep.name.replace("-", "_") == name
    for values in corners(sweep):
        settings = trial_settings(sweep, values)
        arm, steps = last_trained(settings)
        assert arm == {"train": sweep.arm, "cir": "instruct"}[sweep.command]
        assert settings.evaluation.part == "validation"
        assert steps % sweep.validate_every == 0, "the last step is looked at too"


def test_the_spaces_are_those_that_are_promised() -> None:
    promised = {"loss_weights", "pooler", "grpo", "metric_loss", "composed", "grpo_weight", "furniture_sweep"}
    assert promised <= set(space_names())


def test_a_winner_s_preset_is_what_saga_train_reads(tmp_path: Path) -> None:
    sweep = resolve_sweep("loss_weights")
    values = corners(sweep)[0]
    (tmp_path / "winner.toml").write_text(to_toml(preset_settings(sweep, values)))
    settings = resolve(str(tmp_path / "winner.toml"))
    assert settings.arms == ["start", "metric", "saga"] and settings.evaluation.part == "test"
    assert settings.grpo.weight == values["grpo.weight"] and settings.name == "loss-weights"


GOOD = """
preset = "furniture"
[parameters."grpo.weight"]
kind = "uniform"
low = 0.1
high = 1.0
"""


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("grpo.weight", "grpo.wieght", "did you mean 'grpo.weight'"),
        ("grpo.weight", "rollout.engine", "rollout.engine in .* is the same for all trials"),
        ("grpo.weight", "ray.address", "ray.address in .* is the same for all trials"),
        ("[parameters", "seed = 3000000000\n[parameters", "at most 2147483647"),
        ("low = 0.1", "low = 2.0", "low=2 must be below high=1"),
        ("low = 0.1", "low = -0.1", "grpo.weight"),
        ('"uniform"', '"even"', "parameters"),
        ('"furniture"', '"furnitur"', "did you mean 'furniture'"),
        ("preset", "presets", "did you mean 'preset'"),
        ('preset = "furniture"', 'searcher = "grid"', "a grid takes choices alone"),
        ('preset = "furniture"', "repeats = 3", "only a grid's points are repeated"),
        ('preset = "furniture"', 'scheduler = "pbt"', "set concurrency=8"),
        ("low = 0.1", 'when = {"metric.loss" = "infonce"}\nlow = 0.1', "depends on 'metric.loss'"),
        (
            'preset = "furniture"',
            "seed = -1",
            "of at least 0 and at most 2147483647",
        ),
        (
            "grpo.weight",
            "train.steps",
            "a whole number .* set kind=integer or choice",
        ),
        (
            "grpo.weight",
            "data.flip",
            "true or false, and kind=uniform .* set kind=choice",
        ),
    ],
)
def test_a_mistake_is_one_sentence(old: str, new: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(GOOD)
    assert resolve_sweep(str(file)).parameters["grpo.weight"].kind == "uniform"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=said) as caught:
        resolve_sweep(str(file))
    assert "\n" not in str(caught.value)


DEPENDENT = """
[parameters."metric.loss"]
kind = "choice"
values = ["infonce", "proxy_anchor"]
[parameters."grpo.informative_pairs"]
kind = "integer"
low = 4
high = 8
[parameters."distillation.weight"]
kind = "uniform"
low = 0.0
high = 1.0
when = {"metric.loss" = "infonce"}
"""


@pytest.mark.parametrize(
    "when, said",
    [
        (
            '"metric.loss" = "triplet"',
            "which no trial has; choose from 'infonce', 'proxy_anchor'",
        ),
        ('"grpo.informative_pairs" = 9', "a whole number between 4 and 8"),
        (
            '"grpo.weight" = 0.5',
            "is uniform, and others can depend on a choice or an integer only",
        ),
    ],
)
def test_a_condition_that_no_trial_meets_is_refused(when: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    for met in ('"metric.loss" = "infonce"', '"grpo.informative_pairs" = 8'):
        file.write_text(GOOD + DEPENDENT.replace('"metric.loss" = "infonce"', met))
        resolve_sweep(str(file))
    file.write_text(GOOD + DEPENDENT.replace('"metric.loss" = "infonce"', when))
    with pytest.raises(UserError, match=f"distillation.weight is searched when .*{said}") as caught:
        resolve_sweep(str(file))
    assert "\n" not in str(caught.value)


GRID = """
searcher = "grid"
[parameters."data.classes_per_batch"]
kind = "choice"
values = [16, 8]
[parameters."data.blocks"]
kind = "choice"
values = [2, 8]
"""


def test_a_combination_that_could_not_run_is_refused_before_any_trial_starts(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(GRID)
    with pytest.raises(
        UserError, match=r"trial 4 of .* with data.classes_per_batch = 8, data.blocks = 8: .* two classes"
    ) as caught:
        resolve_sweep(str(file))
    assert "\n" not in str(caught.value)
    file.write_text(GRID + 'when = {"data.classes_per_batch" = 16}\n')
    assert len(points(resolve_sweep(str(file)))) == 3


def test_a_drawn_trial_that_could_not_run_is_refused_before_any_starts(tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text('[parameters."data.classes_per_batch"]\nkind = "integer"\nlow = 4\nhigh = 16\n')
    resolve_sweep(str(file), ["searcher=optuna"])  # known only once it is suggested
    with pytest.raises(UserError, match=r"trial \d of .* does not divide data.classes_per_batch=\d*[13579]"):
        resolve_sweep(str(file), ["searcher=random", "trials=20"])


def test_asha_that_would_stop_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="grace_steps=30 in .* is more than train.steps=10"):
        resolve_sweep("loss_weights", ['set={"train.steps"=10}'])


@pytest.mark.parametrize("name", space_names())
def test_what_a_dry_run_prints_is_a_space_again(name: str, tmp_path: Path) -> None:
    (tmp_path / "again.toml").write_text(to_toml(resolve_sweep(name)))
    assert resolve_sweep(str(tmp_path / "again.toml")) == resolve_sweep(name)


def test_an_unknown_space_names_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'loss_weights'"):
        resolve_sweep("loss-weight")


@pytest.mark.parametrize("override", ["trials=3", "concurrency=2", "minutes=1.5"])
def test_a_sweep_s_settings_are_changed_like_those_of_a_run(override: str) -> None:
    name, _, value = override.partition("=")
    changed: Any = getattr(resolve_sweep("loss_weights", [override]), name)
    assert changed == float(value)
