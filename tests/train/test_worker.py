"""What must not change a run's numbers: an interruption, a killed worker, the number of workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray
import torch
from safetensors.torch import load_file

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.settings import Settings
from saga_ray.train import launch
from saga_ray.train.folder import RunFolder
from saga_ray.train.run import run
from tests.train import faults
from tests.train.done import Done, finished

pytestmark = pytest.mark.timeout(900)


def assert_same_run(folder: RunFolder, expected: RunFolder, tolerance: float = 1e-6) -> None:
    """The same steps with the same losses, and the same encoder in the end."""
    assert [record["step"] for record in folder.steps("saga")] == list(range(5))
    for record, wanted in zip(folder.steps("saga"), expected.steps("saga"), strict=True):
        assert record["micro_batches"] == wanted["micro_batches"]
        for name in wanted:
            if name.startswith(("loss/", "gradient/", "rollout/", "validation/")):
                assert record[name] == pytest.approx(wanted[name], rel=tolerance, abs=tolerance), name
        assert record.get("verdict_accuracy") == wanted.get("verdict_accuracy")
        assert ("sample" in record) == ("sample" in wanted)
    weights, wanted_weights = (
        load_file(of.model("saga") / "encoder.safetensors") for of in (folder, expected)
    )
    assert weights.keys() == wanted_weights.keys()
    for name, weight in wanted_weights.items():
        torch.testing.assert_close(weights[name], weight, rtol=tolerance, atol=tolerance)


@pytest.mark.slow
def test_a_run_whose_process_was_killed_goes_on_as_if_nothing_had_happened(
    uninterrupted: Done, base: Path, tmp_path: Path
) -> None:
    settings, output = uninterrupted.settings, base / "interrupted"
    (tmp_path / "settings.json").write_text(settings.model_dump_json())
    killed = subprocess.run(
        [sys.executable, "-m", "tests.train.interrupted", str(tmp_path / "settings.json"), str(output)],
        env={**os.environ, "RAY_ADDRESS": ray.get_runtime_context().gcs_address, "OMP_NUM_THREADS": "1"},
        cwd=SOURCE_TREE,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = RunFolder(output)
    assert folder.finished("saga") is None and not folder.result.exists()
    assert len(folder.steps("saga")) < 5
    before = RunFolder.mlflow_run(output)

    result = run(settings, output, resume=True)
    assert_same_run(folder, uninterrupted.folder)
    assert result.test["saga"].steps == 5  # type: ignore[union-attr]
    assert RunFolder.mlflow_run(output) == before


@pytest.mark.slow
def test_two_workers_of_whom_one_is_killed_take_the_steps_of_one(
    uninterrupted: Done, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both start again from the last checkpoint. Two workers add up in another order than one."""
    monkeypatch.setattr(launch, "_entry", lambda: faults.worker_dies)
    settings = uninterrupted.settings.model_copy(deep=True)
    settings.train.workers, settings.train.max_failures = 2, 1
    run(settings, base / "killed")
    folder = RunFolder(base / "killed")
    left = [path.name for path in folder.checkpoints.rglob("*") if path.is_file()]
    assert left == [faults.MARKER], "what the killed one was writing is gone too"
    assert_same_run(folder, uninterrupted.folder, tolerance=1e-3)


@pytest.mark.slow
def test_two_workers_that_hold_parts_take_the_steps_of_one_that_holds_the_whole(
    session_ray: None, base: Path, small: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of the two is killed on the way, so that both begin again with a checkpoint's parts; scores of
    validation take both."""
    scores = {"verdict_pairs": 8, "verdict_every": 2, "validate_every": 2}
    train: dict[str, object] = {"steps": 5, "checkpoint_every": 2}
    whole = finished(small(["saga"], train=train, evaluation=scores), base / "whole")
    monkeypatch.setattr(launch, "_entry", lambda: faults.worker_dies)
    train |= {"workers": 2, "shard": "both", "max_failures": 1}
    parts = finished(small(["saga"], train=train, evaluation=scores), base / "parts")
    assert (parts.folder.checkpoints / faults.MARKER).exists()
    assert_same_run(parts.folder, whole.folder, tolerance=1e-3)
    records = whole.folder.steps("saga")
    for name in ("verdict_accuracy", "validation/recall@1"):
        assert any(name in record for record in records)
    assert parts.result.test["saga"].steps == 5  # type: ignore[union-attr]
