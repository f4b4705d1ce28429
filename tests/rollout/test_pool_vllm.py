"""vLLM in a Ray actor, fed with a supervisor's prompts, and the parity gate on what it answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.models.replay import replay
from saga_ray.rollout.engine import PairRequest, Sampling, completion_seed
from saga_ray.rollout.engines.transformers import TransformersEngine
from saga_ray.rollout.groups import Group
from saga_ray.rollout.local import LocalRollouts
from saga_ray.rollout.parity import parity
from saga_ray.rollout.pool import Pool, running_pool
from saga_ray.rollout.rewards import Judge
from tests.tiny import TOKEN_WIDTH, TOKENS, TinySupervisor, tiny_supervisor

GROUP, PAIRS = 8, 16

pytestmark = pytest.mark.timeout(600)

SETTINGS = Settings.model_validate(
    {
        "rollout": {
            "engine": "vllm",
            "group_size": GROUP,
            "max_new_tokens": 12,
            "kv_cache_gib": 0.1,
            "cpus_per_actor": 1,
        },
        "grpo": {"informative_pairs": 4},
        "supervisor": {"prompt": "attributes"},
    }
)


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> TinySupervisor:
    folder: Path = tmp_path_factory.mktemp("tiny")
    return tiny_supervisor(folder)


@pytest.fixture(scope="module")
def pool(session_ray: None, supervisor: TinySupervisor) -> Iterator[Pool]:
    with running_pool(SETTINGS, supervisor.folder, supervisor.verdict_key) as pool:
        yield pool


@pytest.fixture(scope="module")
def x_2PND() -> torch.Tensor:
    return torch.randn(2, PAIRS, TOKENS, TOKEN_WIDTH, generator=torch.Generator().manual_seed(1))


def requests(supervisor: TinySupervisor, x_2PND: torch.Tensor, step: int) -> list[PairRequest]:
    return [
        PairRequest(
            step=step,
            round=0,
            pair=pair,
            same=pair % 2 == 0,
            prompt=prompt,
            seeds=tuple(completion_seed(1, step, 0, pair, g) for g in range(GROUP)),
            sampling=Sampling.of(SETTINGS.rollout),
            encoder_version=step,
        )
        for pair, prompt in enumerate(supervisor.engine_prompts(x_2PND[0], x_2PND[1], "attributes"))
    ]


def replayed(supervisor: TinySupervisor, x_2PND: torch.Tensor, groups: list[Group]) -> torch.Tensor:
    pairs = [group.pair_index for group in groups]
    longest = max(len(completion.token_ids) for group in groups for completion in group.completions)
    tokens_PGT = torch.zeros(len(groups), GROUP, longest, dtype=torch.long)
    mask_PGT = torch.zeros(len(groups), GROUP, longest, dtype=torch.bool)
    for p, group in enumerate(groups):
        for g, completion in enumerate(group.completions):
            tokens_PGT[p, g, : len(completion.token_ids)] = torch.tensor(completion.token_ids)
            mask_PGT[p, g, : len(completion.token_ids)] = True
    with torch.no_grad():
        return replay(
            supervisor,
            x_2PND[0][pairs],
            x_2PND[1][pairs],
            tokens_PGT,
            mask_PGT,
            style="attributes",
            layer=None,
            temperature=None,
            shared_prefix=True,
        ).logp_PGT


def test_the_gate_passes_on_equal_and_refuses_on_other_embeddings(
    pool: Pool, supervisor: TinySupervisor, x_2PND: torch.Tensor
) -> None:
    groups = pool.parity_groups(requests(supervisor, x_2PND, step=0))
    assert pool.engine_name == "vllm" and [group.pair_index for group in groups] == list(range(PAIRS))
    report = parity(groups, replayed(supervisor, x_2PND, groups), SETTINGS.rollout.parity_tolerance)
    report.require("vllm")
    assert report.mean < 1e-5 and report.tokens > 4 * PAIRS * GROUP
    other = parity(groups, replayed(supervisor, x_2PND.flip(0), groups), SETTINGS.rollout.parity_tolerance)
    with pytest.raises(UserError, match="parity"):
        other.require("vllm")


def test_a_step_with_vllm_is_repeatable_and_like_one_with_the_reference(
    pool: Pool, supervisor: TinySupervisor, x_2PND: torch.Tensor
) -> None:
    found = []
    for _ in range(2):
        client = pool.client()
        client.submit(1, 0, requests(supervisor, x_2PND, 1), range(PAIRS))
        found.append((list(client.accepted(1, 0)), client.outcome(1, 0)))
    (groups, outcome), (groups_again, _) = found
    assert groups == groups_again
    assert len(groups) == outcome.accepted_total == 4
    assert all(group.informative and group.encoder_version == 1 for group in groups)
    assert outcome.unparsable < outcome.completions / 4

    longest = SETTINGS.rollout.max_new_tokens
    reference = LocalRollouts(
        TransformersEngine(supervisor, 9, longest, 128), 1000, Judge(supervisor.verdict_key)
    )
    reference.submit(1, 0, requests(supervisor, x_2PND, 1), range(PAIRS))
    whole = reference.outcome(1, 0)
    client = pool.client(wanted=1000)
    client.submit(1, 0, requests(supervisor, x_2PND, 1), range(PAIRS))
    of_vllm = client.outcome(1, 0)
    # Other random numbers, the same distribution: 128 answers each.
    assert abs(of_vllm.reward_sum - whole.reward_sum) < 4 * (2 * 128 * 0.25) ** 0.5
    assert abs(of_vllm.tokens - whole.tokens) < 0.1 * whole.tokens
