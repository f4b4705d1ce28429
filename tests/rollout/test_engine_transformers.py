"""The reference engine against plain forward passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import EnginePrompt
from saga_ray.rollout.engines.transformers import TransformersEngine, sample
from tests.rollout import engine_checks as checks
from tests.tiny import WIDTH, TinySupervisor, tiny_supervisor

PROMPT = 9


@pytest.fixture(scope="module")
def supervisor() -> TinySupervisor:
    return tiny_supervisor()


@pytest.fixture
def engine(supervisor: TinySupervisor) -> TransformersEngine:
    return TransformersEngine(supervisor, PROMPT, checks.SETTINGS.max_new_tokens, max_parallel_sequences=16)


def test_logprobs_are_the_models_own(engine: TransformersEngine, supervisor: TinySupervisor) -> None:
    checks.check_logprobs_are_the_models_own(engine, supervisor)


def test_answers_end_at_the_end_of_sequence_or_the_limit(
    engine: TransformersEngine, supervisor: TinySupervisor
) -> None:
    checks.check_ends(engine, supervisor)


def test_seeds_alone_decide(engine: TransformersEngine, supervisor: TinySupervisor) -> None:
    checks.check_seeds_decide(engine, supervisor)


def test_tokens_come_as_often_as_temperature_and_top_p_say(
    engine: TransformersEngine, supervisor: TinySupervisor
) -> None:
    checks.check_frequencies(engine, supervisor)


def test_requests_of_other_runs_mix(engine: TransformersEngine, supervisor: TinySupervisor) -> None:
    checks.check_requests_of_other_runs_mix(engine, supervisor)
    checks.check_longer_answers_are_refused(engine, supervisor)


def test_greedy_is_the_argmax_of_plain_forward_passes(
    engine: TransformersEngine, supervisor: TinySupervisor
) -> None:
    prompts = checks.pair_prompts(supervisor, 5)
    groups = checks.run(engine, [checks.ask(prompt, i, temperature=0.0) for i, prompt in enumerate(prompts)])
    for prompt, completions in zip(prompts, groups, strict=True):
        likeliest_T = checks.forward_logprobs(supervisor, prompt, completions[0].token_ids).argmax(-1)
        assert [completion.token_ids for completion in completions] == [likeliest_T.tolist()] * checks.GROUP


def test_prompts_of_two_lengths(engine: TransformersEngine, supervisor: TinySupervisor) -> None:
    long = checks.pair_prompts(supervisor, 4)
    assert long[1].embeds_LH is not None
    short = EnginePrompt(long[1].token_ids[1:], long[1].embeds_LH[1:], None)
    mixed = [long[0], short, long[2], long[3]]
    together = checks.run(engine, [checks.ask(prompt, i) for i, prompt in enumerate(mixed)])
    alone = [checks.run(engine, [checks.ask(prompt, i)])[0] for i, prompt in enumerate(mixed)]
    assert [[c.token_ids for c in group] for group in together] == [
        [c.token_ids for c in group] for group in alone
    ]


def test_aborted_requests_leave_the_others_alone(
    engine: TransformersEngine, supervisor: TinySupervisor
) -> None:
    requests = [checks.ask(prompt, i) for i, prompt in enumerate(checks.pair_prompts(supervisor, 6))]
    expected = checks.run(engine, requests)
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    engine.step()
    engine.step()
    engine.abort(1)  # running
    engine.abort(5)  # waiting: four groups fit at the same time
    engine.abort(77)  # unknown
    found = {}
    while not engine.idle:
        found.update(engine.step())
    assert sorted(found) == [0, 2, 3, 4]
    assert [c.token_ids for c in found[4]] == [c.token_ids for c in expected[4]]
    assert [c.token_ids for c in found[2]] == [c.token_ids for c in expected[2]]


@pytest.mark.parametrize(
    ("embeds_LH", "sentence"),
    [
        (torch.zeros(PROMPT, WIDTH + 1), "the supervisor reads"),
        (torch.zeros(PROMPT - 1, WIDTH), "the supervisor reads"),
        (torch.full((PROMPT, WIDTH), torch.nan), "not finite"),
        (torch.zeros(PROMPT, WIDTH, dtype=torch.long), "floating point"),
    ],
)
def test_refuses_prompts_that_do_not_fit(
    engine: TransformersEngine, embeds_LH: torch.Tensor, sentence: str
) -> None:
    with pytest.raises(UserError, match=f"pair 3.*{sentence}"):
        engine.submit(0, checks.ask(EnginePrompt([0] * PROMPT, embeds_LH, None), pair=3))
    assert engine.idle


def test_refuses_a_prompt_longer_than_announced(engine: TransformersEngine) -> None:
    with pytest.raises(UserError, match="a prompt of 10 tokens"):
        engine.submit(0, checks.ask(EnginePrompt([0] * 10, torch.zeros(10, WIDTH), None)))


def test_sample_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    logits_BV = torch.from_numpy(rng.normal(0, 2, (200, 11)))
    uniform_B = torch.from_numpy(rng.random(200))
    drawn = sample(logits_BV, uniform_B, 0.7, 0.9)
    for logits_V, uniform, token in zip(logits_BV.tolist(), uniform_B.tolist(), drawn.tolist(), strict=True):
        weights = np.exp(np.array(logits_V) / 0.7)
        weights /= weights.sum()
        kept: list[int] = []
        while weights[kept].sum() < 0.9:
            kept.append(max((v for v in range(11) if v not in kept), key=lambda v: weights[v]))
        left = uniform * weights[kept].sum()
        for candidate in kept:
            left -= weights[candidate]
            if left < 0:
                break
        assert token == candidate


def test_sample_stays_in_the_nucleus_at_the_edge() -> None:
    logits_BV = torch.tensor([[5.0, 0.0, 1.0]])
    just_below_1 = torch.tensor([1 - 2**-53], dtype=torch.float64)
    assert sample(logits_BV, just_below_1, 1.0, 0.5).item() == 0
    assert sample(logits_BV, just_below_1, 1.0, 1.0).item() == 1
