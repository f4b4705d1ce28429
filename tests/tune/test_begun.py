"""A sweep goes on with what it began with, and one that has ended keeps its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saga_ray.config.sweep import corners, resolve_sweep, trial_settings
from saga_ray.errors import UserError
from saga_ray.tune import begun
from saga_ray.tune.sweep import sweep
from tests.tune.test_report import result, trials

SPACE = """
preset = "{folder}/preset.toml"
arm = "metric"
searcher = "random"
trials = 3
set = {{"train.steps" = 20}}
[parameters."optimizer.tower_rate"]
kind = "uniform"
low = 0.001
high = 0.002
"""


@pytest.fixture
def space(tmp_path: Path) -> Path:
    (tmp_path / "preset.toml").write_text("[train]\nworkers = 1\n[metric.options]\ntemperature = 0.1\n")
    (tmp_path / "space.toml").write_text(SPACE.format(folder=tmp_path))
    return tmp_path / "space.toml"


@pytest.fixture
def folder(tmp_path: Path, space: Path) -> Path:
    """A sweep's, as it lies there after an interruption."""
    (tmp_path / "sweep").mkdir()
    settings = resolve_sweep(str(space))
    begun.write(tmp_path / "sweep", settings, trial_settings(settings, corners(settings)[0]), "its-run")
    return tmp_path / "sweep"


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("trials = 3", "trials = 5", "trials = 3 and this command says 5"),
        ("high = 0.002", "high = 0.003", "parameters.optimizer.tower_rate.high = 0.002 .* says 0.003"),
        ('"train.steps" = 20', '"train.steps" = 40', "set.train.steps = 20 and this command says 40"),
        ('"train.steps" = 20', "", "set.train.steps = 20 and this command says None"),
    ],
)
def test_a_sweep_is_resumed_with_its_own_settings_only(
    old: str, new: str, said: str, folder: Path, space: Path
) -> None:
    space.write_text(space.read_text().replace(old, new))
    before = (folder / begun.FILE_NAME).read_text()
    with pytest.raises(UserError, match=f"began with {said}; resume with the same settings") as caught:
        sweep(resolve_sweep(str(space)), folder, resume=True)
    assert "\n" not in str(caught.value) and (folder / begun.FILE_NAME).read_text() == before


def test_a_preset_that_has_changed_since_is_refused(folder: Path, space: Path) -> None:
    preset = space.parent / "preset.toml"
    preset.write_text(preset.read_text().replace("temperature = 0.1", "temperature = 0.2"))
    with pytest.raises(UserError, match=r"metric.options.temperature = 0.1 and this command says 0.2"):
        sweep(resolve_sweep(str(space)), folder, resume=True)


def test_where_a_sweep_runs_may_change(folder: Path, space: Path) -> None:
    preset = space.parent / "preset.toml"
    preset.write_text(f'{preset.read_text()}[ray]\naddress = "auto"\nlocal_cpus = 4\n')
    settings = resolve_sweep(str(space))
    begun.require_same(folder, settings, trial_settings(settings, corners(settings)[0]))


def test_a_sweep_that_has_ended_is_given_back_as_it_is(folder: Path, space: Path) -> None:
    for found in (result(trials()), result([trial for trial in trials() if trial.status == "failed"])):
        found.write(folder)
        assert sweep(resolve_sweep(str(space)), folder, resume=True) == found
    space.write_text(space.read_text().replace("trials = 3", "trials = 5"))
    with pytest.raises(UserError, match="began with trials = 3"):
        sweep(resolve_sweep(str(space)), folder, resume=True)


@pytest.mark.parametrize("left", [{"interrupted": True, "test": {}}, {"test": {}}])
def test_a_sweep_that_was_interrupted_or_not_tested_has_not_ended(left: dict[str, Any], folder: Path) -> None:
    assert begun.ended(folder) is None
    result(trials(), **left).write(folder)
    assert begun.ended(folder) is None
