"""Whole sweeps on a real local Ray: one set of rollout actors, selection on validation, failures, MLflow."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray
from mlflow.entities import Run
from ray._private.state import actors
from ray.util import placement_group_table

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.overrides import resolve
from saga_ray.config.presets import to_toml
from saga_ray.config.settings import Settings
from saga_ray.config.sweep import resolve_sweep
from saga_ray.errors import UserError
from saga_ray.retrieval.evaluate import evaluate_path
from saga_ray.train.folder import LOCK, RunFolder
from saga_ray.tune.encoders import SweptEncoders
from saga_ray.tune.result import SweepResult, read
from saga_ray.tune.sweep import sweep
from tests.train.small import make_pictures

pytestmark = pytest.mark.timeout(900)

TOO_FAST = 1e30
"""A learning rate after whose first step nothing is a number any more."""


def write_space(folder: Path, preset: Settings, text: str) -> Path:
    (folder / "preset.toml").write_text(to_toml(preset))
    (folder / "space.toml").write_text(f'name = "tried"\npreset = "{folder / "preset.toml"}"\n{text}')
    return folder / "space.toml"


def wait_for(condition: Callable[[], bool], limit_s: float = 60.0, what: Callable[[], object] = str) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen: {what()}"
        time.sleep(0.2)


def held() -> dict[str, object]:
    """What a sweep takes of a cluster: actors by class, placement groups, CPUs."""
    alive = {actor["ActorClassName"] for actor in actors().values() if actor["State"] != "DEAD"}
    alive -= {"_StatsActor", "_AutoscalingCoordinatorActor"}  # Ray Data's, one each for the whole cluster
    groups = [group for group in placement_group_table().values() if group["state"] != "REMOVED"]
    free = ray.available_resources().get("CPU", 0.0)
    return {
        "actors": sorted(alive),
        "placement groups": len(groups),
        "CPUs": ray.cluster_resources()["CPU"] - free,
    }


def given_back(before: dict[str, object]) -> bool:
    """What a sweep took; and what was held before it, by a test that had just ended, may be free by now."""
    return (now := held()) == before or not any(now.values())


def mlflow_run(folder: Path) -> tuple[mlflow.MlflowClient, Run]:
    """A sweep's own run."""
    client = mlflow.MlflowClient(f"sqlite:///{folder.parent / 'mlflow.db'}")
    return client, client.get_run(json.loads((folder / "sweep.json").read_text())["mlflow_run"])


def mlflow_statuses(folder: Path) -> dict[str, str]:
    """Of its trials' runs."""
    client, parent = mlflow_run(folder)
    below = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    trials = client.search_runs([parent.info.experiment_id], below)
    return {str(trial.info.run_name): trial.info.status for trial in trials}


@pytest.fixture(scope="module")
def done(session_ray: None, base: Path, small: Callable[..., Settings]) -> tuple[SweepResult, Path]:
    """Two trials, of which one fails."""
    folder = base / "grid"
    folder.mkdir()
    space = write_space(
        folder,
        small(["start", "metric", "saga"], train={"steps": 4, "checkpoint_every": 2, "max_failures": 0}),
        'searcher = "grid"\nconcurrency = 2\nvalidate_every = 2\nretries = 0\n'
        '[parameters."optimizer.tower_rate"]\n'
        f'kind = "choice"\nvalues = [1e-3, {TOO_FAST}]\n',
    )
    before = held()
    result = sweep(resolve_sweep(str(space)), folder / "sweep")
    wait_for(lambda: given_back(before), what=held)
    return result, folder / "sweep"


def test_every_trial_is_reported_the_failed_one_with_its_own_error(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    assert read(folder) == result and not result.interrupted
    by_rate = {trial.values["optimizer.tower_rate"]: trial for trial in result.trials}
    good, bad = by_rate[1e-3], by_rate[TOO_FAST]
    assert (good.status, bad.status) == ("finished", "failed")
    assert [step for step, _ in good.history] == [2, 4] and 0 <= (good.value or -1) <= 1
    assert bad.error is not None and "NaN or infinite" in bad.error and result.best == good.id


def test_one_rollout_actor_served_all_trials_and_is_gone(done: tuple[SweepResult, Path]) -> None:
    engines = [actor for actor in actors().values() if actor["ActorClassName"].endswith("EngineActor")]
    of_sweep = [actor for actor in engines if actor["Name"].startswith("rollouts-tried-")]
    assert len(of_sweep) == 1 and of_sweep[0]["State"] == "DEAD"


def test_the_winner_is_scored_once_on_the_test_classes(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    assert list(result.test) == [result.best]
    model = RunFolder(folder / "trials" / str(result.best)).model("saga")
    settings = resolve(str(folder / "winner.toml"))
    assert settings.arms == ["start", "metric", "saga"] and settings.optimizer.tower_rate == 1e-3
    again = evaluate_path(model, data=settings.data.source)
    assert result.data.test_classes == 12
    # `saga evaluate` splits the pictures by its own settings; the sweep's are those of its preset.
    assert set(again["test"]["model"]) == set(result.test[str(result.best)])


def test_mlflow_has_the_sweep_its_trials_and_the_registered_winner(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    client, parent = mlflow_run(folder)
    assert parent.info.status == "FINISHED" and parent.info.run_name == "tried"
    assert mlflow_statuses(folder) == {
        trial.id: {"finished": "FINISHED", "failed": "FAILED"}[trial.status] for trial in result.trials
    }
    best = result.test[str(result.best)]
    assert parent.data.metrics["test/map_at_r"] == pytest.approx(best["map@r"])
    assert {file.path for file in client.list_artifacts(parent.info.run_id)} >= {
        "result.json",
        "winner.toml",
        "report",
    }
    version = client.get_model_version_by_alias("tried", "champion")
    assert version.tags["trial"] == result.best and result.registered == "models:/tried@champion"


@pytest.mark.slow
def test_a_test_that_fails_leaves_the_trials_and_is_made_again(
    done: tuple[SweepResult, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result, folder = done
    result.model_copy(update={"test": {}, "registered": None}).write(folder)  # as if it had been killed there
    before = held()
    settings = resolve_sweep(str(folder.parent / "space.toml"))

    def full(self: SweptEncoders, model: Path) -> dict[str, float]:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(SweptEncoders, "test", full)
        with pytest.raises(UserError, match=f"the test classes: no space left .*--resume {folder}"):
            sweep(settings, folder, resume=True)
    left = read(folder)
    assert left.trials == result.trials and left.best == result.best and left.test == {}
    assert (folder / "report" / "index.html").exists() and resolve(str(folder / "winner.toml"))
    again = sweep(settings, folder, resume=True)
    assert again.test == result.test and again.registered == result.registered and read(folder) == again
    wait_for(lambda: given_back(before), what=held)


def test_a_sweep_that_has_ended_keeps_its_result(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    space = str(folder.parent / "space.toml")
    assert sweep(resolve_sweep(space), folder, resume=True) == result == read(folder)
    with pytest.raises(UserError, match=f"{folder} began with retries = 0 and this command says 2; resume"):
        sweep(resolve_sweep(space, ["retries=2"]), folder, resume=True)
    assert read(folder) == result


@pytest.mark.slow
def test_a_suggested_combination_that_no_run_can_have_fails_alone(
    session_ray: None, base: Path, small: Callable[..., Settings]
) -> None:
    folder = base / "impossible"
    folder.mkdir()
    space = write_space(
        folder,
        small(["metric"], train={"steps": 2, "checkpoint_every": 2, "max_failures": 0}),
        'arm = "metric"\ntrials = 2\nvalidate_every = 2\nretries = 0\n'
        "seed = 5\n"  # by which Optuna suggests 4 and 4, then 4 and 2
        '[parameters."data.classes_per_batch"]\nkind = "choice"\nvalues = [8, 4]\n'
        '[parameters."data.blocks"]\nkind = "choice"\nvalues = [2, 4]\n',
    )
    result = sweep(resolve_sweep(str(space)), folder / "sweep")
    bad, good = result.trials
    assert bad.values == {"data.classes_per_batch": 4, "data.blocks": 4} and bad.status == "failed"
    assert bad.error is not None and bad.error.startswith("data.classes_per_batch must give every block two")
    assert good.status == "finished" and result.best == good.id and list(result.test) == [good.id]
    assert "must give every block two" in (folder / "sweep" / "report" / "index.html").read_text()


def test_a_folder_in_use_and_one_without_a_sweep_are_refused(done: tuple[SweepResult, Path]) -> None:
    settings = resolve_sweep("furniture-sweep")
    with pytest.raises(UserError, match="in use: it is not empty"):
        sweep(settings, done[1])
    with pytest.raises(UserError, match="no sweep to resume"):
        sweep(settings, done[1].parent, resume=True)


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "searcher"), [("asha", "optuna"), ("pbt", "random")])
def test_schedulers_stop_and_exchange_trials_and_every_resource_comes_back(
    scheduler: str, searcher: str, session_ray: None, base: Path, small: Callable[..., Settings]
) -> None:
    folder = base / scheduler
    pictures = make_pictures(folder / "pictures", noise=150.0)  # hard, so that no two trials are alike
    space = write_space(
        folder,
        small(
            ["metric"],
            data={"source": str(pictures)},
            # Steps of a tenth of a second: few of them would be over before Tune has looked.
            train={"steps": 8 if scheduler == "asha" else 32, "checkpoint_every": 2, "max_failures": 0},
        ),
        f'arm = "metric"\nsearcher = "{searcher}"\nscheduler = "{scheduler}"\nconcurrency = 2\n'
        f"trials = {4 if scheduler == 'asha' else 2}\nvalidate_every = 2\n"
        "grace_steps = 2\nperturb_every = 2\n"
        '[parameters."optimizer.tower_rate"]\n'
        'kind = "log-uniform"\nlow = 1e-5\nhigh = 1.0\n',
    )
    before = held()
    result = sweep(resolve_sweep(str(space)), folder / "sweep")
    wait_for(lambda: given_back(before), what=held)
    statuses = [trial.status for trial in result.trials]
    assert result.best is not None and set(statuses) <= {"finished", "stopped"}
    assert mlflow_statuses(folder / "sweep") == {
        trial.id: {"finished": "FINISHED", "stopped": "KILLED"}[trial.status] for trial in result.trials
    }
    if scheduler == "asha":
        assert "stopped" in statuses and "finished" in statuses
    else:
        assert statuses == ["finished"] * 2
        donors = list((folder / "sweep" / "trials").glob("*/donor/trial.json"))
        assert donors, "no trial went on from a better one"


def start_job(space: Path, output: Path, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SOURCE_TREE / "jobs" / "sweep.py"), str(space), "--output", str(output)]
    return subprocess.Popen(
        command, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def watched(folder: Path) -> list[dict[str, Any]]:
    """What the sweep's table says now."""
    file = folder / "trials.json"
    return list(json.loads(file.read_text()).values()) if file.exists() else []


@pytest.mark.slow
def test_a_trial_whose_process_is_killed_goes_on_and_its_workers_give_back_their_place(
    base: Path, small: Callable[..., Settings]
) -> None:
    """On a local cluster with room for one trial at a time: the second try needs what the first one held."""
    folder = base / "killed-trial"
    folder.mkdir()
    space = write_space(
        folder,
        small(
            ["metric"],
            train={"steps": 30, "checkpoint_every": 2, "max_failures": 0, "cpus_per_worker": 2.0},
            ray={"local_cpus": 4, "wait_for_resources_s": 120.0},
        ),
        'arm = "metric"\nsearcher = "random"\ntrials = 1\nretries = 1\nvalidate_every = 2\n'
        '[parameters."optimizer.tower_rate"]\nkind = "log-uniform"\nlow = 1e-4\nhigh = 1e-2\n',
    )
    process = start_job(space, folder / "s")
    wait_for(lambda: any(trial["step"] >= 2 for trial in watched(folder / "s")), 300)
    [lock] = (folder / "s" / "trials").glob(f"*/{LOCK}")
    os.kill(int(lock.read_text().split()[0]), signal.SIGKILL)
    at = watched(folder / "s")[0]["step"]
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    [trial] = read(folder / "s").trials
    assert trial.status == "finished" and trial.steps == 30 and trial.error is None and at < 30
    assert [step for step, _ in trial.history] == list(range(2, 31, 2))


@pytest.mark.slow
@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_that_is_interrupted_or_killed_goes_on(
    by: signal.Signals, session_ray: None, base: Path, small: Callable[..., Settings]
) -> None:
    folder = base / f"sweep-with-{by.name}"
    folder.mkdir()
    before = held()
    space = write_space(
        folder,
        small(["metric"], train={"steps": 4, "checkpoint_every": 2, "max_failures": 0}),
        'arm = "metric"\nsearcher = "random"\ntrials = 3\nvalidate_every = 2\n'
        '[parameters."optimizer.tower_rate"]\nkind = "log-uniform"\nlow = 1e-4\nhigh = 1e-2\n',
    )
    process = start_job(space, folder / "s", RAY_ADDRESS=ray.get_runtime_context().gcs_address)

    def one_has_ended() -> bool:
        states = [trial["state"] for trial in watched(folder / "s")]
        return "ended" in states and "runs" in states

    wait_for(one_has_ended, 300)
    process.send_signal(by)
    _, said = process.communicate(timeout=120)
    if by == signal.SIGINT:
        assert process.returncode == 130 and "to go on: saga sweep" in said, said
        result = read(folder / "s")
        assert result.interrupted and not result.test
        assert {"finished", "unfinished"} <= {trial.status for trial in result.trials}
        assert "RUNNING" not in mlflow_statuses(folder / "s").values()
    else:
        assert process.returncode == -signal.SIGKILL and not (folder / "s" / "result.json").exists()
    [ended] = [trial for trial in watched(folder / "s") if trial["state"] == "ended"]
    wait_for(lambda: given_back(before), what=held)

    again = sweep(resolve_sweep(str(space)), folder / "s", resume=True)
    assert not again.interrupted and [trial.status for trial in again.trials] == ["finished"] * 3
    assert again.trials[0].value == ended["value"] and len(again.test) == 2
    assert set(mlflow_statuses(folder / "s").values()) == {"FINISHED"}
