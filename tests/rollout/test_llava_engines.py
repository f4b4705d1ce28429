"""Rollouts of LLaVA supervisors: both engines say what replay says, two pictures a prompt, n > 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saga_ray.models.supervisors import _llava_assemble as assemble
from saga_ray.models.supervisors.llava import load
from saga_ray.rollout import engines
from tests.models.supervisors.tiny_llava import checkpoint, onevision_checkpoint, pictures
from tests.rollout import engine_checks as checks

VLLM = pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("language", ["llama", "phi3", "onevision"])
@pytest.mark.parametrize("engine", ["transformers", VLLM])
def test_log_probabilities_are_those_of_replay(engine: str, language: str, tmp_path: Path) -> None:
    if language == "onevision":
        onevision_checkpoint(tmp_path / "llava")
    else:
        checkpoint(tmp_path / "llava", language)
    assemble.of_checkpoint(tmp_path / "llava", tmp_path / "supervisor", "birds")
    supervisor = load(tmp_path / "supervisor", "float32")
    with torch.no_grad():
        x_BND = supervisor.build_tower()(pictures(4))
    running = engines.build(engine, supervisor.folder, checks.SETTINGS, "float32", "generic")
    try:
        difference = checks.difference_from_replay(running, supervisor, x_BND[:2], x_BND[2:])
    finally:
        running.close()
    print(f"{engine}, {language}: largest difference {difference:.2e}")
    assert difference < 1e-4
