"""Real vLLM on the tiny supervisor: says what the reference says, keeps seeds apart, frees and shares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import EnginePrompt
from saga_ray.rollout.engines.transformers import TransformersEngine
from saga_ray.rollout.engines.vllm import VllmEngine, build
from tests.rollout import engine_checks as checks
from tests.tiny import WIDTH, TinySupervisor, tiny_supervisor

LONGEST = 50
"""More than the supervisor's own prompts, so that prompts can span a whole cache block of 32 tokens."""

pytestmark = pytest.mark.timeout(600)  # the first start inspects the model in a process of its own


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> TinySupervisor:
    folder: Path = tmp_path_factory.mktemp("tiny")
    return tiny_supervisor(folder)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def engine(supervisor: TinySupervisor, request: pytest.FixtureRequest) -> Iterator[VllmEngine]:
    """In one process, or with the language model shared out to two."""
    settings = checks.SETTINGS.model_copy(update={"tensor_parallel": request.param})
    engine = build(supervisor, settings, LONGEST)
    yield engine
    engine.close()


def blocks_in_use(engine: VllmEngine) -> int:
    scheduler = engine._engine.engine_core.engine_core.scheduler
    pool = scheduler.kv_cache_manager.block_pool
    return int(pool.num_gpu_blocks - 1 - pool.get_num_free_blocks())  # one block is vLLM's own


def test_greedy_tokens_and_logprobs_equal_the_reference(
    engine: VllmEngine, supervisor: TinySupervisor
) -> None:
    reference = TransformersEngine(supervisor, LONGEST, checks.SETTINGS.max_new_tokens, 64)
    prompts = [*checks.pair_prompts(supervisor, 12), *(checks.random_prompt(40, seed) for seed in range(4))]
    requests = [checks.ask(prompt, i, temperature=0.0) for i, prompt in enumerate(prompts)]
    ours, theirs = checks.run(engine, requests), checks.run(reference, requests)
    for our_group, their_group in zip(ours, theirs, strict=True):
        for our, their in zip(our_group, their_group, strict=True):
            assert (our.token_ids, our.text, our.finish) == (their.token_ids, their.text, their.finish)
            torch.testing.assert_close(
                torch.tensor(our.logprobs), torch.tensor(their.logprobs), rtol=1e-4, atol=1e-4
            )


def test_logprobs_are_the_models_own(engine: VllmEngine, supervisor: TinySupervisor) -> None:
    checks.check_logprobs_are_the_models_own(engine, supervisor)


def test_answers_end_at_the_end_of_sequence_or_the_limit(
    engine: VllmEngine, supervisor: TinySupervisor
) -> None:
    checks.check_ends(engine, supervisor)


def test_seeds_alone_decide(engine: VllmEngine, supervisor: TinySupervisor) -> None:
    checks.check_seeds_decide(engine, supervisor)


def test_tokens_come_as_often_as_temperature_and_top_p_say(
    engine: VllmEngine, supervisor: TinySupervisor
) -> None:
    checks.check_frequencies(engine, supervisor)


def test_an_abort_frees_blocks_and_is_never_heard_of_again(
    engine: VllmEngine, supervisor: TinySupervisor
) -> None:
    requests = [checks.ask(prompt, i) for i, prompt in enumerate(checks.pair_prompts(supervisor, 3))]
    expected = checks.run(engine, requests)
    assert blocks_in_use(engine) == 0
    for ticket, request in enumerate(requests):
        engine.submit(ticket, request)
    engine.step()
    assert blocks_in_use(engine) == 3 * checks.GROUP
    engine.abort(0)
    engine.abort(2)
    engine.abort(77)  # unknown
    assert blocks_in_use(engine) == checks.GROUP
    found = {}
    while not engine.idle:
        found.update(engine.step())
    assert sorted(found) == [1]
    assert [c.token_ids for c in found[1]] == [c.token_ids for c in expected[1]]
    assert blocks_in_use(engine) == 0 and not engine._engine.has_unfinished_requests()


def test_prefixes_are_shared_by_equal_embeddings_and_by_no_others(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached: dict[str, int] = {}
    step = engine._engine.step

    def noting_step() -> Any:
        outputs = step()
        cached.update({output.request_id: output.num_cached_tokens for output in outputs})
        return outputs

    monkeypatch.setattr(engine._engine, "step", noting_step)
    first, other = checks.random_prompt(40, seed=11), checks.random_prompt(40, seed=12)
    assert first.token_ids == other.token_ids
    assert first.embeds_LH is not None
    in_one_number = first.embeds_LH.clone()
    in_one_number[5, 3] += 1.0
    prompts = [first, other, EnginePrompt(first.token_ids, in_one_number, None)]
    apart = []
    for prompt in prompts:
        engine._engine.reset_prefix_cache()
        apart.append(checks.run(engine, [checks.ask(prompt, temperature=0.0)])[0][0])
    engine._engine.reset_prefix_cache()
    cached.clear()
    requests = [checks.ask(prompt, i, temperature=0.0) for i, prompt in enumerate(prompts)]
    together = [group[0] for group in checks.run(engine, requests)]

    assert [cached[f"{ticket}-0"] for ticket in range(3)] == [0, 0, 0], "different embeddings shared a prefix"
    assert all(cached[f"{t}-{g}"] == 32 for t in range(3) for g in range(1, checks.GROUP))
    for alone, mixed in zip(apart, together, strict=True):
        assert alone.token_ids == mixed.token_ids
        torch.testing.assert_close(torch.tensor(alone.logprobs), torch.tensor(mixed.logprobs))
    assert apart[0].logprobs != apart[1].logprobs and apart[0].logprobs != apart[2].logprobs


def test_requests_of_other_runs_mix(engine: VllmEngine, supervisor: TinySupervisor) -> None:
    checks.check_requests_of_other_runs_mix(engine, supervisor)
    checks.check_longer_answers_are_refused(engine, supervisor)


def test_refuses_prompts_that_do_not_fit_and_goes_on(engine: VllmEngine, supervisor: TinySupervisor) -> None:
    for embeds_LH in (
        torch.zeros(9, WIDTH + 1),
        torch.full((9, WIDTH), torch.inf),
        torch.zeros(LONGEST + 1, WIDTH),
    ):
        with pytest.raises(UserError, match="pair 3"):
            engine.submit(0, checks.ask(EnginePrompt([0] * len(embeds_LH), embeds_LH, None), pair=3))
    assert engine.idle
    checks.check_logprobs_are_the_models_own(engine, supervisor)


def test_a_gpu_is_refused_where_vllm_is_built_for_cpu(supervisor: TinySupervisor) -> None:
    from vllm.platforms import current_platform

    on_cpu = current_platform.is_cpu()
    settings = checks.SETTINGS.model_copy(update={"gpus_per_actor": 1.0 if on_cpu else 0.0})
    with pytest.raises(UserError, match=r"rollout\.gpus_per_actor"):
        build(supervisor, settings, LONGEST)


def test_sampling_that_vllm_does_not_offer_is_refused_at_the_start(supervisor: TinySupervisor) -> None:
    with pytest.raises(UserError, match="temperature"):
        build(supervisor, checks.SETTINGS.model_copy(update={"temperature": 3.0}), LONGEST)
