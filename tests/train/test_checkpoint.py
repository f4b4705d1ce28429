"""A checkpoint's way into Ray Train's storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import ray.train

from saga_ray.errors import UserError
from saga_ray.train.checkpoint import UNFINISHED, report, unfinished


def test_a_checkpoint_becomes_ray_train_s_by_a_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reported: list[Any] = []

    def take(metrics: Any, checkpoint: Any, checkpoint_upload_fn: Any) -> None:
        assert Path(checkpoint.path) == tmp_path / UNFINISHED
        reported.append((metrics, checkpoint_upload_fn(checkpoint, "checkpoint_1")))

    monkeypatch.setattr(ray.train, "report", take)
    with unfinished(tmp_path) as folder:
        (folder / "weights").write_text("new")
        report({"step": 2}, folder)
    ((metrics, checkpoint),) = reported
    assert metrics == {"step": 2} and Path(checkpoint.path) == tmp_path / "checkpoint_1"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint_1"]
    assert (tmp_path / "checkpoint_1" / "weights").read_text() == "new"


def test_what_a_killed_worker_left_makes_room_for_the_next_checkpoint(tmp_path: Path) -> None:
    (tmp_path / UNFINISHED).mkdir()
    (tmp_path / UNFINISHED / "weights").write_text("half of th")
    with unfinished(tmp_path) as folder:
        assert list(folder.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


def test_storage_that_this_node_does_not_have_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(UserError, match=r"runs/saga is not there on .* that all nodes .* share"),
        unfinished(tmp_path / "runs" / "saga"),
    ):
        pass
