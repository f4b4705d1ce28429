"""A cluster that grows from one node to two when a job asks: training on the one, rollouts on the other."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from saga_ray.train.ports import free_port
from tests.jobs.nodes import START_S, Head, answers, head, process, wait_until

TRAINING = {"CPU": 6, "training": 1}
ROLLOUT = {"CPU": 2, "rollout": 1}

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture(scope="module")
def growing(ray_folder: Path) -> Iterator[Head]:
    """A node for training; Ray's autoscaler adds one for rollouts."""
    with head(ray_folder, TRAINING, grows_by=ROLLOUT) as up:
        yield up


@pytest.fixture(scope="module")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server that has been started; whoever needs it waits for it."""
    folder = tmp_path_factory.mktemp("mlflow")
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    with process(command, folder / "server.log", {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}):
        yield address


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "saga"


@pytest.fixture(scope="module")
def submitted(
    mlflow_server: str, growing: Head, clone: Path, home: Path, settings_file: Callable[..., Path]
) -> Head:
    """Both jobs of this file under way; they do not fit on the one node that is up."""
    assert len(growing.nodes()) == 1
    file = settings_file(
        "apart",
        ["saga"],
        train={"steps": 1, "resources": {"training": 0.5}},
        rollout={"resources": {"rollout": 1.0}},
        ray={"wait_for_resources_s": 120.0},
    )
    growing.submit("sqlite", clone, home / "sqlite", str(file))
    wait_until("the start of MLflow", lambda: answers(f"{mlflow_server}/health"), START_S)
    growing.submit("server", clone, home / "server", str(file), "--set", f"tracking.uri={mlflow_server}")
    return growing


def test_the_cluster_grows_and_sqlite_is_refused_there(submitted: Head, home: Path) -> None:
    status, log = submitted.end_of("sqlite")
    assert "waiting for the Ray cluster to grow: the run needs 1 rollout (there are 0)" in log
    assert status == "FAILED"
    assert "saga: tracking.uri: an SQLite store serves one node and this cluster has 2; start an" in log
    assert "Traceback" not in log
    assert not (home / "sqlite").exists()


def test_training_and_rollouts_run_on_the_nodes_that_settings_name(
    submitted: Head, mlflow_server: str, home: Path
) -> None:
    status, log = submitted.end_of("server")
    assert status == "SUCCEEDED", log
    assert "Traceback" not in log and f"MLflow   {mlflow_server}" in log

    nodes = {
        kind: node["node_id"]
        for node in submitted.nodes()
        for kind in ("training", "rollout")
        if kind in node["resources_total"]
    }
    assert nodes["training"] != nodes["rollout"]
    ran_on: dict[str, set[str]] = {}
    for actor in submitted.actors():
        ran_on.setdefault(actor["class_name"].rpartition(".")[2], set()).add(actor["node_id"])
    assert ran_on["RayTrainWorker"] == {nodes["training"]}, ran_on
    assert ran_on["EngineActor"] == {nodes["rollout"]}, ran_on

    (run,) = (home / "server" / "runs").iterdir()
    saga = json.loads((run / "result.json").read_text())["test"]["saga"]
    assert saga["engine"]["name"] == "vllm" and saga["steps"] == 1
    client = mlflow.MlflowClient(mlflow_server)
    experiment = client.get_experiment_by_name("saga")
    assert experiment is not None
    tracked = {found.info.run_name: found for found in client.search_runs([experiment.experiment_id])}
    assert set(tracked) == {"small", "saga"}
    assert all(found.info.status == "FINISHED" for found in tracked.values())
    assert tracked["saga"].data.metrics["test/map_at_r"] == pytest.approx(saga["map@r"])
    kept = {file.path for file in client.list_artifacts(tracked["small"].info.run_id)}
    assert {"result.json", "report"} <= kept
