"""`ray job submit` to a real head on loopback: what a run leaves behind, and what a mistake looks like.

A job with rollouts is in `test_two_nodes`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from tests.jobs.nodes import Head, head

UPLOAD_LIMIT = 45 * 1024**2

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def one_node(ray_folder: Path) -> Iterator[Head]:
    with head(ray_folder, {"CPU": 8}) as up:
        yield up


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home") / "saga"


@pytest.fixture(scope="module")
def submitted(one_node: Head, clone: Path, home: Path, settings_file: Callable[..., Path]) -> Head:
    """A head with both jobs of this file under way."""
    file = settings_file("small", ["start", "metric"])
    one_node.submit("good", clone, home, str(file), "--set", "seed=3", "--set", "name=from-a-job")
    one_node.submit("typo", clone, home, "furnitur", "--set", "train.steps=3")
    return one_node


def files_of(folder: Path) -> set[str]:
    """Files but Python's own caches."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if "__pycache__" not in path.parts}


def test_a_clone_fits_the_upload(clone: Path) -> None:
    assert sum((clone / name).stat().st_size for name in files_of(clone)) < UPLOAD_LIMIT


def test_a_mistake_ends_the_job_with_one_sentence(submitted: Head) -> None:
    status, log = submitted.end_of("typo")
    assert status == "FAILED"
    assert "saga: 'furnitur' is not a preset; did you mean 'furniture'?" in log
    assert "Traceback" not in log


def test_a_job_s_run_is_found_in_mlflow_and_on_disk(submitted: Head, clone: Path, home: Path) -> None:
    status, log = submitted.end_of("good")
    assert status == "SUCCEEDED", log
    assert "Traceback" not in log and "metric (1 of 1)  step 2/2" in log

    (run,) = (home / "runs").glob("from-a-job-*")
    assert f"result   {run / 'result.json'}" in log and f"report   {run / 'report' / 'index.html'}" in log
    result = json.loads((run / "result.json").read_text())
    assert result["seed"] == 3 and set(result["test"]) == {"start", "metric"}

    client = mlflow.MlflowClient(f"sqlite:///{home / 'runs' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("saga")
    assert experiment is not None
    (tracked,) = client.search_runs([experiment.experiment_id], "tags.`mlflow.runName` = 'from-a-job'")
    assert tracked.info.status == "FINISHED" and tracked.data.params["seed"] == "3"
    expected = pytest.approx(result["test"]["metric"]["map@r"])
    assert tracked.data.metrics["test/metric/map_at_r"] == expected
    assert {"result.json", "report"} <= {file.path for file in client.list_artifacts(tracked.info.run_id)}


def test_nothing_is_written_where_the_job_runs(submitted: Head, clone: Path) -> None:
    submitted.end_of("good")
    (working,) = (
        path
        for path in submitted.folder.glob("session_2*/runtime_resources/working_dir_files/*")
        if path.is_dir()
    )
    assert files_of(working) == files_of(clone)
