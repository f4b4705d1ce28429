"""Rollouts of Qwen-VL supervisors: both engines say what the replay says, two pictures a prompt, n > 1."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.rollout import engines
from saga_ray.rollout.groups import Completion
from tests.models.supervisors import qwen
from tests.rollout import engine_checks as checks


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp(request.param)
    qwen.write_supervisor(request.param, path)
    return path


def check_engine(name: str, folder: Path, parts: int = 1) -> list[list[Completion]]:
    """Log-probabilities are replay's, and prompts are looked at; returns greedy answers."""
    settings = checks.SETTINGS.model_copy(update={"tensor_parallel": parts})
    supervisor = supervisors.load(folder)
    with torch.no_grad():
        x_BND = supervisor.build_tower()(qwen.pictures(supervisor.family, 4))
    engine = engines.build(name, folder, settings, "float32", "generic")
    try:
        assert checks.difference_from_replay(engine, supervisor, x_BND[::2], x_BND[1::2]) < 1e-4
        prompts = supervisor.engine_prompts(x_BND[::2], x_BND[1::2], "generic")
        first = prompts[0]
        assert first.image_embeds_ND is not None
        for wrong, sentence in (
            (replace(first, image_embeds_ND=first.image_embeds_ND[1:]), "the supervisor reads"),
            (replace(first, image_embeds_ND=first.image_embeds_ND * torch.nan), "not finite"),
            (replace(first, token_ids=first.token_ids[::-1][:40]), "image placeholders"),
        ):
            with pytest.raises(UserError, match=sentence):
                engine.submit(9, checks.ask(wrong))
        return checks.run(
            engine, [checks.ask(prompt, pair, temperature=0.0) for pair, prompt in enumerate(prompts)]
        )
    finally:
        engine.close()


def test_the_reference_engine_says_what_the_replay_says(folder: Path) -> None:
    check_engine("transformers", folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("parts", [1, 2])
def test_vllm_says_what_the_replay_says_and_answers_like_the_reference(folder: Path, parts: int) -> None:
    ours, theirs = check_engine("vllm", folder, parts), check_engine("transformers", folder)
    assert [[each.token_ids for each in group] for group in ours] == [
        [each.token_ids for each in group] for group in theirs
    ]
