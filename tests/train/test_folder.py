from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.train.folder import LOCK, RunFolder


def test_a_folder_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"not empty.*--output"):
        RunFolder.check(tmp_path, resume=False)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_run_that_is_under_way_cannot_be_resumed(tmp_path: Path) -> None:
    with (
        RunFolder.open(tmp_path / "run", Settings(), resume=False) as folder,
        pytest.raises(UserError, match=f"in use by process {os.getpid()}"),
    ):
        RunFolder.check(folder.path, resume=True)


def test_a_run_under_way_on_another_machine_cannot_be_resumed(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", Settings(), resume=False) as folder:
        pass
    (folder.path / LOCK).write_text("17 another-machine")
    with pytest.raises(UserError, match=f"process 17 on another-machine.*remove {LOCK}"):
        RunFolder.check(folder.path, resume=True)


def test_a_run_s_seconds_are_those_of_all_its_sessions(tmp_path: Path) -> None:
    path, now = tmp_path / "run", time.monotonic()
    with RunFolder.open(path, Settings(), resume=False, began=now - 100) as folder:
        assert 100 <= folder.seconds < 110
    with RunFolder.open(path, Settings(), resume=True, began=time.monotonic() - 30) as again:
        assert 130 <= again.seconds < 150
        again.note_mlflow_run("abc")
    assert RunFolder.mlflow_run(path) == "abc" and 130 <= RunFolder(path).seconds < 150


def test_a_run_whose_process_is_gone_can_be_resumed(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", Settings(seed=5), resume=False) as folder:
        pass
    (folder.path / LOCK).write_text(f"999999999 {socket.gethostname()}")
    with RunFolder.open(folder.path, Settings(seed=5), resume=True) as again:
        assert RunFolder.settings_of(again.path, Settings).seed == 5


def test_resuming_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run to resume"):
        RunFolder.check(tmp_path, resume=True)


def test_an_arm_that_has_ended_keeps_its_model_and_outcome_and_drops_its_checkpoints(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path / "run", Settings(), resume=False) as folder:
        checkpoint = folder.checkpoints / "saga" / "last" / "encoder"
        checkpoint.mkdir(parents=True)
        (checkpoint / "encoder.safetensors").write_text("weights")
        assert folder.finished("saga") is None
        folder.finish("saga", checkpoint, {"map@r": 0.5})
        assert folder.finished("saga") == {"map@r": 0.5}
        assert (folder.model("saga") / "encoder.safetensors").read_text() == "weights"
        assert not (folder.checkpoints / "saga").exists()


def test_embeddings_that_did_not_find_room_leave_nothing_behind_that_is_taken_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Any, array: Any) -> None:
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    folder = RunFolder(tmp_path)
    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(np, "save", full)
        folder.write_embeddings("start", [[0.5, 1.0]])
    assert not folder.embeddings("start").exists()
    folder.write_embeddings("start", [[0.5, 1.0]])
    found = np.load(folder.embeddings("start"))
    assert found.dtype == np.float16 and found.tolist() == [[0.5, 1.0]]
    assert list(folder.arm("start").iterdir()) == [folder.embeddings("start")]


def test_step_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    records = [{"step": 0, "micro_batches": [0, 1]}, {"step": 1, "micro_batches": [2]}]
    assert folder.steps("saga") == []
    folder.write_steps("saga", records)
    assert folder.steps("saga") == records
