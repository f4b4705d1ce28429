"""What every engine must do, as plain functions; the tests of an engine call them on theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.models.replay import replay
from saga_ray.models.supervisors.base import EnginePrompt, Supervisor
from saga_ray.rollout.engine import Engine, PairRequest, Sampling, completion_seed
from saga_ray.rollout.groups import Completion
from tests.tiny import EOS, TOKEN_WIDTH, TOKENS, WIDTH, TinySupervisor

GROUP = 4
SETTINGS = RolloutSettings(
    group_size=GROUP,
    temperature=0.7,
    top_p=0.9,
    max_new_tokens=12,
    kv_cache_gib=0.1,
    max_parallel_sequences=64,
)


def ask(
    prompt: EnginePrompt, pair: int = 0, run_seed: int = 1, group_size: int = GROUP, **sampling: Any
) -> PairRequest:
    seeds = tuple(completion_seed(run_seed, 0, 0, pair, g) for g in range(group_size))
    how = replace(Sampling.of(SETTINGS), **sampling)
    return PairRequest(0, 0, pair, True, prompt, seeds, how, encoder_version=0)


def pair_prompts(supervisor: TinySupervisor, count: int, seed: int = 0) -> list[EnginePrompt]:
    """Prompts of random pairs of pictures."""
    x_2PND = torch.randn(2, count, TOKENS, TOKEN_WIDTH, generator=torch.Generator().manual_seed(seed))
    return supervisor.engine_prompts(x_2PND[0], x_2PND[1], "attributes")


def random_prompt(length: int, seed: int) -> EnginePrompt:
    """Embeddings of no picture and no word."""
    embeds_LH = torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(seed))
    return EnginePrompt([0] * length, embeds_LH, None)


def run(engine: Engine, requests: Sequence[PairRequest]) -> list[list[Completion]]:
    """The completions of each request, in the order of the requests."""
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    found: dict[int, list[Completion]] = {}
    while not engine.idle:
        found.update(engine.step())
    assert sorted(found) == list(range(len(requests)))
    return [found[ticket] for ticket in range(len(requests))]


@torch.no_grad()
def forward_logprobs(supervisor: TinySupervisor, prompt: EnginePrompt, token_ids: Sequence[int]) -> Tensor:
    """Raw log p over the vocabulary at every answer position, in one pass without a cache."""
    assert prompt.embeds_LH is not None
    model = supervisor.language_model
    answer_TH = model.get_input_embeddings()(torch.tensor(list(token_ids), dtype=torch.long))
    embeds_1SH = torch.cat([prompt.embeds_LH, answer_TH])[None]
    logits_SV = model(inputs_embeds=embeds_1SH).logits[0].float()
    return logits_SV[len(prompt.embeds_LH) - 1 : -1].log_softmax(-1)


def difference_from_replay(engine: Engine, supervisor: Supervisor, x_a_PND: Tensor, x_b_PND: Tensor) -> float:
    """The largest one between a log-probability that the engine reports and replay's, over sampled answers
    to pairs of pictures."""
    prompts = supervisor.engine_prompts(x_a_PND, x_b_PND, "generic")
    groups = run(engine, [ask(prompt, pair) for pair, prompt in enumerate(prompts)])
    assert len({tuple(each.token_ids) for group in groups for each in group}) > 2
    longest = max(len(each.token_ids) for group in groups for each in group)
    tokens_PGT = torch.full((len(groups), GROUP, longest), supervisor.eos_token_id)
    mask_PGT = torch.zeros(tokens_PGT.shape, dtype=torch.bool)
    said_PGT = torch.zeros(tokens_PGT.shape)
    for p, group in enumerate(groups):
        for g, completion in enumerate(group):
            length = len(completion.token_ids)
            tokens_PGT[p, g, :length] = torch.tensor(completion.token_ids)
            mask_PGT[p, g, :length] = True
            said_PGT[p, g, :length] = torch.tensor(completion.logprobs)
    with torch.no_grad():
        replayed = replay(
            supervisor,
            x_a_PND,
            x_b_PND,
            tokens_PGT,
            mask_PGT,
            style="generic",
            layer=None,
            temperature=None,
            shared_prefix=True,
        )
    return float((replayed.logp_PGT - said_PGT).abs().amax())


def check_logprobs_are_the_models_own(engine: Engine, supervisor: TinySupervisor) -> None:
    """Sampled at temperature 0.7 and top-p 0.9, yet reported at temperature 1 without a cut."""
    prompts = pair_prompts(supervisor, 3)
    for prompt, completions in zip(
        prompts, run(engine, [ask(p, i) for i, p in enumerate(prompts)]), strict=True
    ):
        for completion in completions:
            logp_TV = forward_logprobs(supervisor, prompt, completion.token_ids)
            expected_T = logp_TV.gather(1, torch.tensor(completion.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(torch.tensor(completion.logprobs), expected_T, rtol=1e-4, atol=1e-4)


def check_ends(engine: Engine, supervisor: TinySupervisor) -> None:
    """End of sequence is a generated token and ends an answer; what never says it is cut at the limit."""
    prompts = pair_prompts(supervisor, 8)
    whole = [c for group in run(engine, [ask(p, i) for i, p in enumerate(prompts)]) for c in group]
    assert any(completion.finish == "stop" for completion in whole)
    for completion in whole:
        assert completion.text == supervisor.decode(completion.token_ids)
        assert (completion.token_ids[-1] == EOS) == (completion.finish == "stop")
        assert EOS not in completion.token_ids[:-1]
        assert completion.finish == "stop" or len(completion.token_ids) == SETTINGS.max_new_tokens
    short_asks = [ask(prompt, i, max_new_tokens=3) for i, prompt in enumerate(prompts)]
    cut = [completion for group in run(engine, short_asks) for completion in group]
    for short, full in zip(cut, whole, strict=True):
        assert short.finish == "length" and short.token_ids == full.token_ids[:3]


def check_seeds_decide(engine: Engine, supervisor: TinySupervisor) -> None:
    """Company, order and time of asking play no part; another seed gives another answer."""
    prompts = pair_prompts(supervisor, 6)
    requests = [ask(prompt, i) for i, prompt in enumerate(prompts)]
    together = [[c.token_ids for c in group] for group in run(engine, requests)]
    backwards = [[c.token_ids for c in group] for group in run(engine, requests[::-1])][::-1]
    alone = [[c.token_ids for c in run(engine, [request])[0]] for request in requests]
    assert together == backwards == alone
    others = run(engine, [ask(prompt, i, run_seed=2) for i, prompt in enumerate(prompts)])
    assert together != [[c.token_ids for c in group] for group in others]
    assert all(len({tuple(tokens) for tokens in group}) > 1 for group in together)


def check_frequencies(engine: Engine, supervisor: TinySupervisor) -> None:
    """First tokens come as often as temperature and top-p say: chi square over a few thousand draws."""
    prompt = random_prompt(9, seed=5)  # sense would leave too few tokens to choose from
    draws = 2048
    how = {"max_new_tokens": 1, "temperature": 2.0, "top_p": 0.8}
    (completions,) = run(engine, [ask(prompt, group_size=draws, **how)])
    probability_V = (forward_logprobs(supervisor, prompt, [0])[0].double() / 2.0).softmax(-1)
    order = probability_V.argsort(descending=True)
    size = int((probability_V[order].cumsum(0) < 0.8).sum()) + 1
    kept = order[:size]
    assert size == 9
    expected = probability_V[kept] / probability_V[kept].sum() * draws
    counts = torch.bincount(
        torch.tensor([c.token_ids[0] for c in completions]), minlength=len(probability_V)
    ).double()
    assert counts.sum() == counts[kept].sum(), "a token outside the nucleus was drawn"
    chi_square = float(((counts[kept] - expected) ** 2 / expected).sum())
    degrees = size - 1
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5, (chi_square, degrees)


def check_requests_of_other_runs_mix(engine: Engine, supervisor: TinySupervisor) -> None:
    """Each is sampled as it asks, whatever the others ask: runs with other settings share an engine."""
    prompts = pair_prompts(supervisor, 4)
    requests = [
        ask(prompts[0], 0),
        ask(prompts[1], 1, group_size=2, temperature=1.5),
        ask(prompts[2], 2, max_new_tokens=2),
        ask(prompts[3], 3, top_p=1.0),
    ]
    together = [[c.token_ids for c in group] for group in run(engine, requests)]
    assert together == [[c.token_ids for c in run(engine, [request])[0]] for request in requests]
    assert [len(group) for group in together] == [GROUP, 2, GROUP, GROUP]
    assert max(map(len, together[2])) == 2 < max(map(len, together[0]))


def check_longer_answers_are_refused(engine: Engine, supervisor: TinySupervisor) -> None:
    """An engine has room for answers of the length that it was started with."""
    [prompt] = pair_prompts(supervisor, 1)
    with pytest.raises(UserError, match="max_new_tokens=13, the engine was started for 12"):
        engine.submit(0, ask(prompt, max_new_tokens=13))
    assert engine.idle
