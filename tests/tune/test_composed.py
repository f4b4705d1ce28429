"""Sweeps of composed retrieval: their spaces, what is refused, and whole sweeps on a real local Ray."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest
import ray
import torch
from ray._private.state import actors

from saga_ray.composed.embedder import Embedder
from saga_ray.composed.evaluation import evaluate
from saga_ray.composed.identity import CONFIG, embedder_hash
from saga_ray.composed.train.checkpoint import checkpoint_folder, restore
from saga_ray.composed.train.prepare import require_queries
from saga_ray.composed.train.scores import look
from saga_ray.composed.train.start import start_embedder
from saga_ray.composed.train.worker import build_optimizer
from saga_ray.config.composed import LOOKS, ComposedSettings
from saga_ray.config.overrides import resolve_composed
from saga_ray.config.presets import to_toml
from saga_ray.config.searched import last_trained
from saga_ray.config.sweep import corners, preset_settings, resolve_sweep, trial_settings
from saga_ray.errors import UserError
from saga_ray.tracking import pyfunc
from saga_ray.train.folder import RunFolder
from saga_ray.tune.result import SweepResult, read
from saga_ray.tune.sweep import sweep
from tests.composed.bars import small_settings, write_bars
from tests.tune.test_sweep import (
    TOO_FAST,
    given_back,
    held,
    mlflow_run,
    mlflow_statuses,
    start_job,
    wait_for,
    watched,
    write_space,
)

pytestmark = pytest.mark.timeout(900)

HEAD = 'command = "cir"\nmetric = "recall@1"\nvalidate_every = 2\nretries = 0\n'
GOOD = (
    HEAD
    + """preset = "furniture-cir"
[parameters."instruct.rate"]
kind = "log-uniform"
low = 1e-4
high = 1e-2
"""
)
RATES = '[parameters."instruct.rate"]\nkind = "log-uniform"\nlow = 1e-5\nhigh = 1.0\n'


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Of embeddings that are kept."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("home")
    patch.setenv("SAGA_HOME", str(folder))
    yield folder
    patch.undo()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> ComposedSettings:
    """Two steps of stage 1, four of stage 2."""
    data = write_bars(tmp_path_factory.mktemp("bars"))
    return small_settings(
        data, instruct={"steps": 4, "chunk": 0, "image_weight": 0.0}, train={"max_failures": 0}
    )


def test_a_winner_s_preset_is_what_saga_cir_train_reads(tmp_path: Path) -> None:
    space = resolve_sweep("composed")
    values = corners(space)[0]
    (tmp_path / "winner.toml").write_text(to_toml(preset_settings(space, values)))
    settings = resolve_composed(str(tmp_path / "winner.toml"))
    assert settings.align.steps == values["align.steps"] and settings.name == "composed"
    assert settings.evaluation.part == "test" and settings.evaluation.validate_every == 0


@pytest.mark.parametrize(
    "old, new, said",
    [
        ("instruct.rate", "instruct.rat", "did you mean 'instruct.rate'"),
        ("instruct.rate", "grpo.weight", "unknown setting 'grpo.weight'"),
        ("instruct.rate", "evaluation.part", "evaluation.part in .* is the same for all trials"),
        ("instruct.rate", "data.source", "data.source brings its own queries"),
        ('"furniture-cir"', '"furniture"', "is a preset of `saga train`: set command=train, or choose from"),
        ('"furniture-cir"', '"furniture-circ"', "did you mean 'furniture-cir'"),
        (
            'command = "cir"',
            'command = "train"',
            "is a preset of `saga cir train`: set command=cir",
        ),
        ('"recall@1"', '"map@r"', "are not measured by map@r; choose from recall@1, recall@5, recall@10"),
        ('metric = "recall@1"', 'metric = "recall@1"\narm = "metric"', "'metric' is an arm of `saga train`"),
        ("low = 1e-4", "low = -1e-4", "low must be above 0"),
    ],
)
def test_a_mistake_is_one_sentence(old: str, new: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "space.toml"
    file.write_text(GOOD)
    assert last_trained(trial_settings(resolve_sweep(str(file)), {})) == ("instruct", 480)
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(UserError, match=said) as caught:
        resolve_sweep(str(file))
    assert "\n" not in str(caught.value)


def test_pbt_changes_what_a_step_of_stage_2_reads(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(GOOD)
    pbt = ["scheduler=pbt", "searcher=random", "trials=2", "concurrency=2"]
    resolve_sweep(str(tmp_path / "space.toml"), pbt)
    (tmp_path / "space.toml").write_text(GOOD.replace("instruct.rate", "align.rate"))
    with pytest.raises(UserError, match="between two steps of stage 2, which does not read align.rate"):
        resolve_sweep(str(tmp_path / "space.toml"), pbt)


def test_asha_that_would_stop_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "space.toml").write_text(GOOD)
    with pytest.raises(UserError, match=r"grace_steps=500 in .* is more than instruct.steps=480"):
        resolve_sweep(str(tmp_path / "space.toml"), ["scheduler=asha", "grace_steps=500"])


@pytest.mark.parametrize("missing, other", [("validation", "test"), ("test", "validation")])
def test_data_without_queries_to_choose_or_to_test_by_is_refused_before_anything_starts(
    missing: str, other: str, tmp_path: Path, home: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    space = write_space(tmp_path, small_settings(write_bars(data, other, other)), HEAD + RATES)
    with pytest.raises(UserError, match=f"has no {missing} queries") as caught:
        sweep(resolve_sweep(str(space)), tmp_path / "sweep")
    assert "\n" not in str(caught.value) and not (tmp_path / "sweep").exists()


def test_what_any_trial_needs_of_the_data_is_asked_for_before_anything_starts(
    tmp_path: Path, home: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    write_bars(data)
    (data / "captions.jsonl").write_text('{"image": "0-red.png", "caption": "a lamp"}\n')
    preset = small_settings(data, align={"steps": 0}, instruct={"caption_weight": 0.0})
    weights = '[parameters."instruct.caption_weight"]\nkind = "choice"\nvalues = [0.0, 1.0]\n'
    with pytest.raises(
        UserError, match=r"triplets are without captions of both .* instruct.caption_weight=1"
    ):
        sweep(resolve_sweep(str(write_space(tmp_path, preset, HEAD + weights))), tmp_path / "sweep")


def adapted(settings: ComposedSettings) -> Embedder:
    """With adapters that do something."""
    embedder = start_embedder(settings, None, settings.embedder.supervisor)
    embedder.adapt(rank=4, alpha=16, dropout=0.5, seed=1)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in embedder.trained():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return embedder.train()


def test_a_look_finds_what_the_stage_s_embedder_would_and_training_goes_on(
    small: ComposedSettings, home: Path
) -> None:
    validation = require_queries(small.data.source, "validation")
    embedder = adapted(small)
    found = look(embedder, validation, small)
    assert list(found) == ["validation/recall@1", "validation/recall@5", "validation/recall@10"]
    assert any(module.training for module in embedder.modules()), "dropout is on again"
    embedder.merge()
    merged = evaluate(embedder, validation, local=True, seed=small.seed).measures["composed"]
    assert found == {f"validation/{name}": merged[name] for name in LOOKS}


def test_a_trial_that_goes_on_from_another_s_checkpoint_has_its_own_rate(
    small: ComposedSettings, tmp_path: Path
) -> None:
    donor, taker = adapted(small), adapted(small)
    own = small.instruct.model_copy(update={"rate": 2e-3, "weight_decay": 0.5})
    optimizer = build_optimizer(taker, own)
    with torch.no_grad():
        for parameter in donor.trained():
            parameter.mul_(2.0)
    donated = build_optimizer(donor, small.instruct)
    with checkpoint_folder(tmp_path, donor, donated, [], ended=False) as folder:
        restore(folder, taker, optimizer)
    assert [group["base"] for group in optimizer.param_groups] == [2e-3] * len(optimizer.param_groups)
    assert optimizer.param_groups[0]["weight_decay"] == 0.5
    for mine, theirs in zip(taker.trained(), donor.trained(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.fixture(scope="module")
def done(
    session_ray: None, small: ComposedSettings, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[SweepResult, Path]:
    """Two trials of stage 2 alone at the same time, of which one fails."""
    folder = tmp_path_factory.mktemp("composed")
    space = write_space(
        folder,
        small.model_copy(update={"align": small.align.model_copy(update={"steps": 0})}),
        HEAD + 'searcher = "grid"\nconcurrency = 2\n'
        f'[parameters."instruct.rate"]\nkind = "choice"\nvalues = [1e-3, {TOO_FAST}]\n',
    )
    before = held()
    result = sweep(resolve_sweep(str(space)), folder / "sweep")
    wait_for(lambda: given_back(before), what=held)
    return result, folder / "sweep"


@pytest.mark.slow
def test_every_trial_is_looked_at_over_validation_queries_alone(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    assert read(folder) == result and not result.interrupted
    by_rate = {trial.values["instruct.rate"]: trial for trial in result.trials}
    good, bad = by_rate[1e-3], by_rate[TOO_FAST]
    assert (good.status, bad.status) == ("finished", "failed") and result.best == good.id
    assert [step for step, _ in good.history] == [2, 4]
    assert good.value is not None and 0 <= good.value <= 1
    assert bad.error is not None and "its training has diverged" in bad.error
    trial = RunFolder(folder / "trials" / good.id)
    settings = RunFolder.settings_of(trial.path, ComposedSettings)
    assert settings.evaluation.part == "validation" and not (trial.path / "evaluation").exists()


@pytest.mark.slow
def test_no_rollout_actor_was_started(done: tuple[SweepResult, Path]) -> None:
    named = {actor["Name"] for actor in actors().values()}
    assert not any(name.startswith("rollouts-") for name in named)


@pytest.mark.slow
def test_the_winner_alone_is_scored_on_the_test_queries(done: tuple[SweepResult, Path]) -> None:
    result, folder = done
    assert list(result.test) == [result.best]
    measured = result.test[str(result.best)]
    assert {"recall@1", "recall@10", "text_only/recall@1", "image_and_text/recall@1"} <= set(measured)
    assert result.data.tested_on == "12 test queries over 24 pictures"
    settings = resolve_composed(str(folder / "winner.toml"))
    assert settings.instruct.rate == 1e-3 and settings.evaluation.part == "test"
    assert "over the validation queries" in (folder / "winner.toml").read_text()


@pytest.mark.slow
def test_the_page_speaks_of_queries(done: tuple[SweepResult, Path]) -> None:
    page = (done[1] / "report" / "index.html").read_text()
    assert "trials of composed retrieval around" in page and "<b>saga cir train</b>" in page
    assert "12 test queries" in page and "classes" not in page


@pytest.mark.slow
def test_mlflow_has_the_trials_and_the_registered_embedder(
    done: tuple[SweepResult, Path], tmp_path: Path
) -> None:
    result, folder = done
    client, parent = mlflow_run(folder)
    assert parent.info.status == "FINISHED" and parent.info.run_name == "tried"
    assert mlflow_statuses(folder) == {
        trial.id: {"finished": "FINISHED", "failed": "FAILED"}[trial.status] for trial in result.trials
    }
    best = result.test[str(result.best)]
    assert parent.data.metrics["test/recall_at_1"] == pytest.approx(best["recall@1"])
    version = client.get_model_version_by_alias("tried", "champion")
    assert version.tags["trial"] == result.best and result.registered == "models:/tried@champion"
    store = f"sqlite:///{folder.parent / 'mlflow.db'}"
    mlflow.artifacts.download_artifacts(
        artifact_uri="models:/tried@champion", dst_path=str(tmp_path), tracking_uri=store
    )
    registered = pyfunc.folder_in(tmp_path)
    trained = RunFolder(folder / "trials" / str(result.best)).model("instruct")
    assert registered is not None and embedder_hash(registered) == embedder_hash(trained)


@pytest.mark.slow
@pytest.mark.parametrize(("scheduler", "searcher"), [("asha", "optuna"), ("pbt", "random")])
def test_schedulers_stop_and_exchange_trials_and_every_resource_comes_back(
    scheduler: str, searcher: str, session_ray: None, small: ComposedSettings, home: Path, tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"steps": 8}
    preset = small.model_copy(update={"instruct": small.instruct.model_copy(update=changes)})
    space = write_space(
        tmp_path,
        preset,
        # Of so few queries none is found at the first place, and trials that are equal are not stopped.
        HEAD.replace("recall@1", "recall@10")
        + f'searcher = "{searcher}"\nscheduler = "{scheduler}"\nconcurrency = 2\n'
        f"trials = {4 if scheduler == 'asha' else 2}\ngrace_steps = 2\nperturb_every = 2\n" + RATES,
    )
    before = held()
    result = sweep(resolve_sweep(str(space)), tmp_path / "sweep")
    wait_for(lambda: given_back(before), what=held)
    statuses = [trial.status for trial in result.trials]
    assert result.best is not None and set(statuses) <= {"finished", "stopped"}
    assert mlflow_statuses(tmp_path / "sweep") == {
        trial.id: {"finished": "FINISHED", "stopped": "KILLED"}[trial.status] for trial in result.trials
    }
    if scheduler == "asha":
        assert "stopped" in statuses and "finished" in statuses
        return
    assert statuses == ["finished"] * 2
    taken = list((tmp_path / "sweep" / "trials").glob("*/donor/trial.json"))
    assert taken, "no trial went on from a better one"
    for trial in result.trials:
        folder = RunFolder(tmp_path / "sweep" / "trials" / trial.id)
        assert (folder.model("align") / CONFIG).is_file(), "what the checkpoint builds on came with it"
        assert [record["step"] for record in folder.steps("instruct")] == list(range(8))
        assert not any(name.startswith("validation/") for each in folder.steps("align") for name in each)


@pytest.mark.slow
def test_a_sweep_that_is_interrupted_leaves_a_result_and_goes_on(
    session_ray: None, small: ComposedSettings, home: Path, tmp_path: Path
) -> None:
    space = write_space(tmp_path, small, HEAD + 'searcher = "random"\ntrials = 3\n' + RATES)
    folder = tmp_path / "s"
    process = start_job(space, folder, RAY_ADDRESS=ray.get_runtime_context().gcs_address)

    def one_has_ended() -> bool:
        states = [trial["state"] for trial in watched(folder)]
        return "ended" in states and "runs" in states

    wait_for(one_has_ended, 300)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130 and "to go on: saga sweep" in said, said
    result = read(folder)
    assert result.interrupted and not result.test
    assert {"finished", "unfinished"} <= {trial.status for trial in result.trials}
    assert "RUNNING" not in mlflow_statuses(folder).values()

    again = sweep(resolve_sweep(str(space)), folder, resume=True)
    assert not again.interrupted and [trial.status for trial in again.trials] == ["finished"] * 3
    assert again.trials[0] == result.trials[0] and len(again.test) == 2
