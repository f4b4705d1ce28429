"""Rollouts of InternVL, Idefics3 and Gemma 3 supervisors: engines say what replay says, two pictures a
prompt, several answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors._assemble import of_checkpoint
from saga_ray.rollout import engines
from tests.models.supervisors import tiny_gemma3, tiny_idefics3, tiny_internvl
from tests.models.supervisors.tiny_llava import pictures
from tests.rollout import engine_checks as checks

VLLM = pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.timeout(900)])
MODELS: dict[str, tuple[int, Callable[[Path], Any]]] = {
    "InternVL3.5": (84, lambda folder: tiny_internvl.checkpoint(folder, "qwen3")),
    # positions that stretch behind the last one trained
    "InternVL3": (84, lambda folder: tiny_internvl.checkpoint(folder, "qwen2")),
    "Idefics3": (84, lambda folder: tiny_idefics3.checkpoint(folder, tiny_idefics3.IDEFICS3)),
    "SmolVLM": (96, lambda folder: tiny_idefics3.checkpoint(folder, tiny_idefics3.SMOLVLM)),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("engine", ["transformers", VLLM])
def test_log_probabilities_are_those_of_replay(engine: str, model: str, tmp_path: Path) -> None:
    size, write = MODELS[model]
    write(tmp_path / "released")
    check(engine, model, size, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_log_probabilities_are_those_of_replay_from_two_processes(tmp_path: Path) -> None:
    size, write = MODELS["InternVL3.5"]
    write(tmp_path / "released")
    check("vllm", "InternVL3.5", size, tmp_path, parts=2)


def test_gemma_3_is_answered_for_by_the_engine_that_masks_as_it_does(tmp_path: Path) -> None:
    """Its sliding layers see 40 positions, of a prompt of several hundred."""
    tiny_gemma3.checkpoint(tmp_path / "released")
    check("transformers", "Gemma 3", 84, tmp_path)


def test_vllm_is_refused_for_gemma_3(tmp_path: Path) -> None:
    tiny_gemma3.checkpoint(tmp_path / "released")
    of_checkpoint(tmp_path / "released", tmp_path / "tiny", "birds", 84)
    with pytest.raises(UserError, match="attend to later ones of it.*set rollout.engine=transformers"):
        engines.build("vllm", tmp_path / "tiny", checks.SETTINGS, "float32", "generic")


def check(engine: str, model: str, size: int, folder: Path, parts: int = 1) -> None:
    """Of a supervisor made of the checkpoint that lies in the folder."""
    of_checkpoint(folder / "released", folder / "tiny", "birds", size)
    supervisor = supervisors.load(folder / "tiny")
    with torch.no_grad():
        x_BND = supervisor.build_tower()(pictures(4, size))
    settings = checks.SETTINGS.model_copy(update={"tensor_parallel": parts})
    running = engines.build(engine, folder / "tiny", settings, "float32", "generic")
    try:
        difference = checks.difference_from_replay(running, supervisor, x_BND[:2], x_BND[2:])
    finally:
        running.close()
    print(f"{engine}, {model}, {parts} process(es): largest difference {difference:.2e}")
    assert difference < 1e-4
