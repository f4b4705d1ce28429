"""Composed retrieval's long proofs: a killed run goes on, and every preset trains at small size."""

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

import pytest
import ray
import torch
from safetensors.torch import load_file

from saga_ray.composed.train.run import run
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.presets import to_toml
from saga_ray.models.supervisors import _assemble, _llava_assemble
from saga_ray.train.folder import RunFolder
from tests.composed.bars import write_bars
from tests.models.supervisors import qwen
from tests.models.supervisors.tiny_llava import language_model, vision_model

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without queries to score: that would take longer than the training."""
    return write_bars(tmp_path_factory.mktemp("bars"), "train", "train")


def saga(*arguments: str, home: Path) -> subprocess.Popen[str]:
    """The command, on the tests' cluster."""
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("saga")), *arguments],
        env={
            **os.environ,
            "RAY_ADDRESS": ray.get_runtime_context().gcs_address,
            "SAGA_HOME": str(home),
            "OMP_NUM_THREADS": "1",
        },
        cwd=SOURCE_TREE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_a_run_whose_process_was_killed_goes_on_as_if_nothing_had_happened(
    session_ray: None, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))
    settings = ComposedSettings.model_validate(
        {
            "name": "killed",
            "data": {"source": str(data)},
            "embedder": {"lora_rank": 4, "lora_dropout": 0.1},
            "align": {"steps": 2, "batch": 4},
            "instruct": {"steps": 12, "batch": 4, "image_weight": 0.0, "caption_weight": 1.0},
            "train": {"checkpoint_every": 2},
            "tracking": {"system_metrics": False},
        }
    )
    (tmp_path / "killed.toml").write_text(to_toml(settings))
    folder, expected = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    process = saga(
        "cir", "train", str(tmp_path / "killed.toml"), "--output", str(folder.path), home=tmp_path / "home"
    )
    checkpoints = folder.checkpoints / "instruct"
    while len(list(checkpoints.glob("checkpoint_*"))) < 2:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.finished("align") is not None and folder.finished("instruct") is None
    before = RunFolder.mlflow_run(folder.path)

    run(settings, folder.path, resume=True)
    run(settings, expected.path)
    assert RunFolder.mlflow_run(folder.path) == before
    for stage, steps in (("align", 2), ("instruct", 12)):
        assert [record["step"] for record in folder.steps(stage)] == list(range(steps))
        for record, wanted in zip(folder.steps(stage), expected.steps(stage), strict=True):
            assert record["loss/total"] == pytest.approx(wanted["loss/total"], rel=1e-5)
        weights, wanted_weights = (
            load_file(next(of.model(stage).rglob("language_model/model.safetensors")))
            for of in (folder, expected)
        )
        for name, weight in wanted_weights.items():
            torch.testing.assert_close(weights[name], weight, rtol=1e-4, atol=1e-6)


def phi(folder: Path) -> None:
    vision_model(folder / "clip")
    language_model(folder / "phi")
    _llava_assemble.of_parts(folder / "clip", folder / "phi", folder / "supervisor", None, 0)


def qwen_vl(family: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        qwen.write_checkpoint(family, folder / "checkpoint")
        _assemble.of_checkpoint(folder / "checkpoint", folder / "supervisor", None, qwen.PIXELS[family])

    return write


@pytest.mark.parametrize(
    ("preset", "write"),
    [
        ("instructcir-phi3.5", phi),
        ("instructcir-qwen2.5-vl", qwen_vl("qwen2_5_vl")),
        ("instructcir-qwen3-vl", qwen_vl("qwen3_vl")),
    ],
)
def test_a_preset_trains_on_a_small_model_of_its_architecture(
    preset: str, write: Callable[[Path], None], session_ray: None, data: Path, tmp_path: Path
) -> None:
    """All but the sizes is the preset's: precision, adapters, chunks of a gathered batch, two stages."""
    write(tmp_path)
    changes: dict[str, Any] = {
        "embedder.supervisor": tmp_path / "supervisor",
        "align.steps": 2,
        "align.batch": 8,
        "align.chunk": 2,
        "instruct.steps": 2,
        "instruct.batch": 8,
        "instruct.chunk": 2,
        "train.workers": 1,
        "train.gpus_per_worker": 0,
        "data.decode_tasks": 1,
        "tracking.system_metrics": "false",
    }
    sets = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    output = tmp_path / "run"
    process = saga(
        "cir", "train", preset, *sets, "--data", str(data), "--output", str(output), home=tmp_path / "home"
    )
    printed = process.communicate(timeout=600)[0]
    assert process.returncode == 0, printed
    result = json.loads((output / "result.json").read_text())
    assert {stage: record["steps"] for stage, record in result["stages"].items()} == {
        "align": 2,
        "instruct": 2,
    }
    assert (RunFolder(output).model("instruct") / "embedder.json").is_file(), printed
