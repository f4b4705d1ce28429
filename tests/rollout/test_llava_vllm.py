"""Real vLLM on a LLaVA supervisor: its language model says what replay says, n > 1."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from saga_ray.models.replay import replay
from saga_ray.models.supervisors import _llava_assemble as assemble
from saga_ray.models.supervisors.llava import load
from saga_ray.rollout.engines.vllm import build
from tests.models.supervisors.tiny_llava import checkpoint, pictures
from tests.rollout import engine_checks as checks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.mark.parametrize("language", ["llama", "phi3"])
def test_log_probabilities_are_those_of_replay(language: str, tmp_path: Path) -> None:
    checkpoint(tmp_path / "llava", language)
    assemble.of_checkpoint(tmp_path / "llava", tmp_path / "supervisor", "tiny", "birds")
    supervisor = load(tmp_path / "supervisor", "float32")
    with torch.no_grad():
        x_BND = supervisor.build_tower()(pictures(4))
        prompts = supervisor.engine_prompts(x_BND[:2], x_BND[2:], "generic")
    engine = build(supervisor, checks.SETTINGS, len(prompts[0].token_ids))
    try:
        groups = checks.run(engine, [checks.ask(prompt, pair) for pair, prompt in enumerate(prompts)])
    finally:
        engine.close()
    longest = max(len(each.token_ids) for group in groups for each in group)
    tokens_PGT = torch.full((2, checks.GROUP, longest), supervisor.eos_token_id)
    said_PGT = torch.zeros(tokens_PGT.shape)
    for p, group in enumerate(groups):
        for g, completion in enumerate(group):
            tokens_PGT[p, g, : len(completion.token_ids)] = torch.tensor(completion.token_ids)
            said_PGT[p, g, : len(completion.token_ids)] = torch.tensor(completion.logprobs)
    mask_PGT = said_PGT != 0
    with torch.no_grad():
        replayed = replay(
            supervisor,
            x_BND[:2],
            x_BND[2:],
            tokens_PGT,
            mask_PGT,
            style="generic",
            layer=None,
            temperature=None,
            shared_prefix=True,
        )
    assert len({tuple(each.token_ids) for group in groups for each in group}) > 2
    difference = (replayed.logp_PGT - said_PGT).abs().amax()
    print(f"{language}: largest difference {difference:.2e} over {int(mask_PGT.sum())} tokens")
    assert difference < 1e-3
