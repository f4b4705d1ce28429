"""Rollouts of Qwen-VL supervisors: both engines say what the replay says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.replay import replay
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout import engines
from saga_ray.rollout.engine import Engine, PairRequest, Sampling
from saga_ray.rollout.groups import Completion
from tests.models.supervisors import qwen

GROUP, LONGEST = 3, 12
SETTINGS = RolloutSettings(
    group_size=GROUP, max_new_tokens=LONGEST, kv_cache_gib=0.1, max_parallel_sequences=16, gpus_per_actor=0
)


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp(request.param)
    qwen.write_supervisor(request.param, path)
    return path


def requests_of(supervisor: Supervisor, x_BND: torch.Tensor, temperature: float) -> list[PairRequest]:
    how = replace(Sampling.of(SETTINGS), temperature=temperature)
    return [
        PairRequest(0, 0, pair, True, prompt, tuple(range(10 * pair, 10 * pair + GROUP)), how, 0)
        for pair, prompt in enumerate(supervisor.engine_prompts(x_BND[::2], x_BND[1::2], "generic"))
    ]


def run(engine: Engine, requests: list[PairRequest]) -> list[list[Completion]]:
    found: dict[int, list[Completion]] = {}
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    while not engine.idle:
        found.update(engine.step())
    return [found[ticket] for ticket in range(len(requests))]


def check_engine(name: str, folder: Path) -> list[list[Completion]]:
    """Reported log-probabilities of sampled answers are the replay's, and prompts are looked at."""
    supervisor = supervisors.load(folder)
    with torch.no_grad():
        x_BND = supervisor.build_tower()(qwen.pictures(supervisor.family, 4))
    engine = engines.build(name, folder, SETTINGS, "float32", "generic")
    requests = requests_of(supervisor, x_BND, 1.0)
    groups = run(engine, requests)
    tokens_PGT = torch.zeros(2, GROUP, LONGEST, dtype=torch.long)
    mask_PGT = torch.zeros(2, GROUP, LONGEST, dtype=torch.bool)
    logp_PGT = torch.zeros(2, GROUP, LONGEST)
    for p, group in enumerate(groups):
        for g, completion in enumerate(group):
            length = len(completion.token_ids)
            tokens_PGT[p, g, :length] = torch.tensor(completion.token_ids)
            mask_PGT[p, g, :length] = True
            logp_PGT[p, g, :length] = torch.tensor(completion.logprobs)
    replayed = replay(
        supervisor,
        x_BND[::2],
        x_BND[1::2],
        tokens_PGT,
        mask_PGT,
        style="generic",
        layer=None,
        temperature=None,
        shared_prefix=True,
    )
    assert len({tuple(completion.token_ids) for group in groups for completion in group}) > GROUP
    torch.testing.assert_close(replayed.logp_PGT, logp_PGT, rtol=1e-4, atol=1e-4)
    prompt = requests[0].prompt
    assert prompt.image_embeds_ND is not None
    for wrong, sentence in (
        (replace(prompt, image_embeds_ND=prompt.image_embeds_ND[1:]), "the supervisor reads"),
        (replace(prompt, image_embeds_ND=prompt.image_embeds_ND * torch.nan), "not finite"),
        (replace(prompt, token_ids=prompt.token_ids[::-1][:40]), "image placeholders"),
    ):
        with pytest.raises(UserError, match=sentence):
            engine.submit(9, replace(requests[0], prompt=wrong))
    greedy = run(engine, requests_of(supervisor, x_BND, 0.0))
    engine.close()
    return greedy


def test_the_reference_engine_says_what_the_replay_says(folder: Path) -> None:
    check_engine("transformers", folder)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vllm_says_what_the_replay_says_and_answers_like_the_reference(folder: Path) -> None:
    ours, theirs = check_engine("vllm", folder), check_engine("transformers", folder)
    assert [[each.token_ids for each in group] for group in ours] == [
        [each.token_ids for each in group] for group in theirs
    ]
