"""What a run leaves in MLflow, read back with MLflow's own client."""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer

import mlflow
import pytest
from mlflow.entities import Run

from saga_ray.config.settings import Settings, TrackingSettings
from saga_ray.errors import UserError
from saga_ray.tracking.mlflow import Tracker, how_to_open, store_uri
from saga_ray.tracking.pyfunc import model_requirements


def settings(**tracking: object) -> Settings:
    return Settings(
        name="try", tracking=TrackingSettings.model_validate({"system_metrics": False} | tracking)
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for all tests: making its tables takes seconds."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def no_run_left_open() -> Iterator[None]:
    yield
    assert mlflow.active_run() is None


def stored(run_id: str) -> Run:
    return mlflow.MlflowClient().get_run(run_id)


def test_parent_and_arm_hold_parameters_metrics_and_tags(home: Path) -> None:
    with Tracker.start(settings(), home, nodes=1) as tracker:
        tracker.tag({"data.hash": "ab12", "version.torch": "2.13.0"})
        with tracker.arm("saga", settings()) as arm:
            for step in range(3):
                arm.log_metrics({"loss/metric": 1.0 - 0.1 * step, "gradient/tokens/cosine": 0.0}, step)
        tracker.log_test({"saga": {"recall@1": 0.87, "map@r": 0.6, "engine": {"name": "vllm"}}})

    parent, nested = stored(tracker.run_id), stored(arm.run_id)
    assert (home / "mlflow.db").is_file()
    assert parent.info.status == nested.info.status == "FINISHED"
    assert nested.data.tags["mlflow.parentRunId"] == tracker.run_id
    assert parent.info.run_name == "try" and nested.info.run_name == "saga"
    assert parent.data.params["rollout.group_size"] == nested.data.params["rollout.group_size"] == "8"
    assert parent.data.params["arms"] == '["start", "metric", "saga"]'
    assert parent.data.tags["data.hash"] == "ab12"
    assert parent.data.metrics == {"test/saga/recall_at_1": 0.87, "test/saga/map_at_r": 0.6}
    assert nested.data.metrics["test/map_at_r"] == 0.6
    history = mlflow.MlflowClient().get_metric_history(arm.run_id, "loss/metric")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 0.9), (2, 0.8)]


def test_metrics_of_a_long_arm_come_in_whole(home: Path) -> None:
    with Tracker.start(settings(), home, nodes=1) as tracker, tracker.arm("metric", settings()) as arm:
        for step in range(700):
            arm.log_metrics({"loss/metric": float(step), "rate": 1.0}, step)
    history = mlflow.MlflowClient().get_metric_history(arm.run_id, "loss/metric")
    assert [point.value for point in history] == list(range(700))


def test_a_run_that_raises_is_marked_failed_and_says_why(home: Path) -> None:
    with (
        pytest.raises(UserError),
        Tracker.start(settings(), home, nodes=1) as tracker,
        tracker.arm("saga", settings()) as arm,
    ):
        raise UserError("no free CPU for the actors\nand more")
    for run in (stored(tracker.run_id), stored(arm.run_id)):
        assert run.info.status == "FAILED"
        assert run.data.tags["saga.error"] == "UserError: no free CPU for the actors"


def test_a_resumed_run_goes_on_in_the_same_runs(home: Path) -> None:
    with pytest.raises(RuntimeError), Tracker.start(settings(), home, nodes=1) as first:
        with first.arm("metric", settings()) as metric:
            metric.log_metrics({"loss/metric": 1.0}, 0)
        with first.arm("saga", settings()) as saga:
            saga.log_metrics({"loss/metric": 1.0}, 0)
            raise RuntimeError("the machine went away")
    with (
        Tracker.start(settings(), home, nodes=1, run_id=first.run_id) as second,
        second.arm("saga", settings()) as again,
    ):
        again.log_metrics({"loss/metric": 0.5}, 1)
    assert (second.run_id, again.run_id) == (first.run_id, saga.run_id)
    assert stored(saga.run_id).info.status == stored(first.run_id).info.status == "FINISHED"
    history = mlflow.MlflowClient().get_metric_history(saga.run_id, "loss/metric")
    assert [point.step for point in history] == [0, 1]


def test_files_and_folders_become_artifacts_beside_the_store(home: Path, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("<p>page</p>")
    (tmp_path / "result.json").write_text("{}")
    with Tracker.start(settings(), home, nodes=1) as tracker:
        tracker.log_path(tmp_path / "report")
        tracker.log_path(tmp_path / "result.json")
    client = mlflow.MlflowClient()
    assert {file.path for file in client.list_artifacts(tracker.run_id)} == {"report", "result.json"}
    assert [file.path for file in client.list_artifacts(tracker.run_id, "report")] == ["report/index.html"]
    assert stored(tracker.run_id).info.artifact_uri.startswith((home / "mlartifacts").as_uri())


def test_system_metrics_are_on_by_setting(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    with Tracker.start(settings(system_metrics=True), home, nodes=1) as tracker:
        for _ in range(100):
            if any(name.startswith("system/") for name in stored(tracker.run_id).data.metrics):
                break
            time.sleep(0.1)
    assert "system/cpu_utilization_percentage" in stored(tracker.run_id).data.metrics


def test_sqlite_on_several_nodes_is_refused_with_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"this cluster has 2; start an MLflow server") as refused:
        Tracker.start(settings(), tmp_path, nodes=2)
    assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match="this cluster has 3"):
        Tracker.start(settings(uri=f"sqlite:///{tmp_path}/other.db"), tmp_path, nodes=3)
    assert not list(tmp_path.iterdir())


def test_a_store_that_cannot_be_opened_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(UserError, match=r"tracking\.uri: MLflow's store sqlite:.* cannot be used: .+"):
        Tracker.start(settings(), tmp_path, nodes=1)


def test_a_server_that_does_not_answer_is_a_user_error_without_its_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError) as refused:
        Tracker.start(settings(uri="http://someone:secret@127.0.0.1:9"), tmp_path, nodes=2)
    assert "http://127.0.0.1:9 cannot be used" in str(refused.value)
    assert "someone" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_training_survives_a_store_that_stops_answering(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Tracker.start(settings(), home, nodes=1) as tracker, tracker.arm("saga", settings()) as arm:
        with sqlite3.connect(home / "mlflow.db") as database:
            database.execute("ALTER TABLE metrics RENAME TO metrics_away")
        arm.log_metrics({"loss/metric": 1.0}, 0)
        arm.flush()
        arm.flush()
        with sqlite3.connect(home / "mlflow.db") as database:
            database.execute("ALTER TABLE metrics_away RENAME TO metrics")
        arm.log_metrics({"loss/metric": 0.5}, 1)
    history = mlflow.MlflowClient().get_metric_history(arm.run_id, "loss/metric")
    assert [point.value for point in history] == [1.0, 0.5]
    assert sum("does not take metrics" in record.message for record in caplog.records) == 1


def test_a_store_that_is_gone_for_a_while_costs_an_arm_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("saga_ray.tracking.mlflow.PATIENCE_S", 0.0)
    monkeypatch.setattr("saga_ray.tracking.mlflow.PAUSE_S", 0.0)
    (tmp_path / "note.txt").write_text("kept")
    with Tracker.start(settings(), home, nodes=1) as tracker:
        with away(home, "runs"):
            with tracker.arm("start", settings()) as lost:
                tracker.tag({"data.hash": "ab12"})
                tracker.log_path(tmp_path / "note.txt")
            arm = tracker.arm("saga", settings())
            arm.log_metrics({"loss/metric": 1.0}, 0)
            arm.flush()
            assert lost.run_id == arm.run_id == ""
        with arm:
            arm.log_metrics({"loss/metric": 2.0}, 1)
    said = [record.message for record in caplog.records]
    assert any("does not take the start of an arm's run (training goes on)" in each for each in said)
    assert any("does not take tags" in each for each in said)
    late = stored(arm.run_id)
    assert stored(tracker.run_id).info.status == late.info.status == "FINISHED"
    assert late.data.params["rollout.group_size"] == "8" and not stored(tracker.run_id).data.tags.get(
        "data.hash"
    )
    history = mlflow.MlflowClient().get_metric_history(arm.run_id, "loss/metric")
    assert [(point.step, point.value) for point in history] == [(0, 1.0), (1, 2.0)]


def test_what_is_no_step_metric_is_tried_again_until_the_store_answers(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("saga_ray.tracking.mlflow.PAUSE_S", 0.05)
    with Tracker.start(settings(), home, nodes=1) as tracker:
        gone = away(home, "runs")
        gone.__enter__()
        back = Timer(0.5, gone.__exit__, (None, None, None))
        back.start()
        with tracker.arm("saga", settings()) as arm:
            pass
        tracker.tag({"data.hash": "ab12"})
        back.join()
    assert stored(arm.run_id).data.params["rollout.group_size"] == "8"
    assert stored(tracker.run_id).data.tags["data.hash"] == "ab12"


@contextmanager
def away(home: Path, table: str) -> Iterator[None]:
    """The store answers with errors while the block runs."""
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    yield
    with sqlite3.connect(home / "mlflow.db") as database:
        database.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


def test_a_deleted_experiment_is_named(home: Path) -> None:
    with Tracker.start(settings(experiment="gone"), home, nodes=1) as tracker:
        pass
    mlflow.MlflowClient().delete_experiment(stored(tracker.run_id).info.experiment_id)
    with pytest.raises(UserError, match=r"tracking\.experiment: 'gone' was deleted"):
        Tracker.start(settings(experiment="gone"), home, nodes=1)


def test_how_to_open_names_the_store(home: Path) -> None:
    command = how_to_open(store_uri(settings(), home))
    assert command == f"{sys.executable} -m mlflow ui --backend-store-uri sqlite:///{home}/mlflow.db"
    assert how_to_open("http://me:secret@host:5000") == "http://host:5000"


def test_a_resumed_run_knows_the_last_step_and_gives_arms_of_before_their_results(home: Path) -> None:
    with Tracker.start(settings(), home, nodes=1) as tracker, tracker.arm("start", settings()) as arm:
        assert arm.last_step == -1
        for step in range(3):
            arm.log_metrics({"loss/metric": 0.5, "seconds/step": 1.0}, step=step)
    with Tracker.start(settings(), home, nodes=1, run_id=tracker.run_id) as again:
        again.log_test({"start": {"map@r": 0.25}})
        with again.arm("start", settings()) as resumed:
            assert (resumed.run_id, resumed.last_step) == (arm.run_id, 2)
    assert stored(arm.run_id).data.metrics["test/map_at_r"] == 0.25


def test_requirements_carry_no_build_suffix() -> None:
    torch = next(line for line in model_requirements() if line.startswith("torch=="))
    assert "+" not in torch


def test_telemetry_is_off() -> None:
    from mlflow.telemetry.utils import is_telemetry_disabled

    assert os.environ["DO_NOT_TRACK"] == os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert is_telemetry_disabled()
