"""Rollouts of InternVL supervisors: both engines say what replay says, two pictures a prompt, n > 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saga_ray.models.supervisors import _internvl_assemble as assemble
from saga_ray.models.supervisors.internvl import load
from saga_ray.rollout import engines
from tests.models.supervisors.tiny_internvl import checkpoint
from tests.models.supervisors.tiny_llava import pictures
from tests.rollout import engine_checks as checks

VLLM = pytest.param("vllm", marks=[pytest.mark.slow, pytest.mark.timeout(900)])


@pytest.mark.parametrize("language", ["qwen3", "qwen2"])
@pytest.mark.parametrize("engine", ["transformers", VLLM])
def test_log_probabilities_are_those_of_replay(engine: str, language: str, tmp_path: Path) -> None:
    """qwen3 is InternVL3.5's; qwen2 is InternVL3's, whose positions stretch behind the last one trained."""
    checkpoint(tmp_path / "internvl", language)
    assemble.of_checkpoint(tmp_path / "internvl", tmp_path / "tiny", "birds", 84)
    supervisor = load(tmp_path / "tiny", "float32")
    with torch.no_grad():
        x_BND = supervisor.build_tower()(pictures(4, 84))
    running = engines.build(engine, tmp_path / "tiny", checks.SETTINGS, "float32", "generic")
    try:
        difference = checks.difference_from_replay(running, supervisor, x_BND[:2], x_BND[2:])
    finally:
        running.close()
    print(f"{engine}, {language}: largest difference {difference:.2e}")
    assert difference < 1e-4
