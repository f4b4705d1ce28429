"""A language model shared out: refused in one sentence where it cannot be, answers as in one process, ends
with its engine. The engines' own tests run it beside one process.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import ray
import torch

from saga_ray.config.checking import check
from saga_ray.config.settings import RolloutSettings, Settings
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.rollout import engines
from saga_ray.rollout.engine import PairRequest, Sampling, completion_seed
from saga_ray.rollout.engines.vllm import build
from saga_ray.rollout.pool import Pool, open_pool, start_engines
from saga_ray.rollout.tensor_parallel import require_parts
from tests.rollout import engine_checks as checks
from tests.tiny import TinySupervisor, tiny_supervisor

PARTS, PAIRS = 2, 8
GONE_S = 60.0
"""They take as long as it takes to end a process that computes, on a machine with much else to do."""


def shared(**rollout: Any) -> RolloutSettings:
    return checks.SETTINGS.model_copy(update={"tensor_parallel": PARTS, **rollout})


@pytest.mark.parametrize(
    ("gpus", "parts", "fits"),
    [(0, 1, True), (0.5, 1, True), (1, 1, True), (4, 4, True), (0, 2, True)]
    + [(1, 2, False), (0.5, 2, False), (4, 1, False), (4, 2, False)],
)
def test_an_actor_has_as_many_gpus_as_parts(gpus: float, parts: int, fits: bool) -> None:
    values = {"rollout": {"gpus_per_actor": gpus, "tensor_parallel": parts}}
    if fits:
        check(values, "a test")
        return
    with pytest.raises(UserError, match=f"gpus_per_actor={gpus:g}, .*tensor_parallel={parts} GPUs: set both"):
        check(values, "a test")


def sized(vision: Any = None, **text: int) -> Any:
    """A supervisor with a language model of these sizes."""
    sizes = {"num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 96, "vocab_size": 500}
    of_text = SimpleNamespace(**(sizes | text))
    config = SimpleNamespace(get_text_config=lambda: of_text, vision_config=vision)
    return SimpleNamespace(name="some", language_model=SimpleNamespace(config=config))


@pytest.mark.parametrize(
    ("parts", "supervisor", "rest"),
    [
        (3, sized(), "8 attention heads of some's language model: set it to one of 1, 2, 4, 8$"),
        (16, sized(), "8 attention heads"),
        (4, sized(intermediate_size=98), "98 numbers inside the perceptron.*one of 1, 2$"),
        (3, sized(num_attention_heads=9, num_key_value_heads=3), "512 rows of the vocabulary"),
        (4, sized(num_attention_heads=12, num_key_value_heads=6), "6 key-value heads.*one of 1, 2$"),
        (8, sized(SimpleNamespace(num_heads=16, intermediate_size=3420)), "3,420 numbers inside the vision"),
        (8, sized(SimpleNamespace(num_heads=4, intermediate_size=64)), "4 heads of the vision model"),
    ],
)
def test_what_cannot_be_cut_is_said(parts: int, supervisor: Any, rest: str) -> None:
    with pytest.raises(UserError, match=f"^rollout.tensor_parallel={parts} does not divide the .*{rest}"):
        require_parts(supervisor, shared(tensor_parallel=parts))


def test_key_heads_may_be_copied() -> None:
    for parts in (1, 2, 4, 8):
        require_parts(sized(), shared(tensor_parallel=parts))


def test_the_reference_engine_is_not_shared_out() -> None:
    with pytest.raises(UserError, match="rollout.engine=transformers runs on one GPU alone"):
        engines.build("transformers", "furniture-pocket", shared(engine="transformers"), "float32", "generic")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_pocket_supervisor_answers_as_in_one_process() -> None:
    """The same tokens, greedy and sampled, and log-probabilities to the tolerance of one process."""
    supervisor = supervisors.load("furniture-pocket")
    size = (2, 4, supervisor.tokens_per_image, supervisor.token_width)
    x_2PND = torch.randn(size, generator=torch.Generator().manual_seed(0)).abs()
    prompts = supervisor.engine_prompts(x_2PND[0], x_2PND[1], "attributes")
    said = []
    for parts in (1, PARTS):
        settings = shared(tensor_parallel=parts, max_new_tokens=24)
        engine = engines.build("vllm", "furniture-pocket", settings, "float32", "attributes")
        try:
            requests = [
                checks.ask(prompt, pair, temperature=temperature, max_new_tokens=24)
                for temperature in (0.0, 1.0)
                for pair, prompt in enumerate(prompts)
            ]
            said.append([each for group in checks.run(engine, requests) for each in group])
        finally:
            engine.close()
    assert len({tuple(each.token_ids) for each in said[0]}) > len(prompts)
    largest = 0.0
    for alone, shared_out in zip(*said, strict=True):
        assert alone.token_ids == shared_out.token_ids
        pairs = zip(alone.logprobs, shared_out.logprobs, strict=True)
        largest = max(largest, *(abs(one - other) for one, other in pairs))
    print(f"largest difference of a log-probability: {largest:.2e}")
    assert largest < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_why_a_part_does_not_start_is_told(tmp_path: Path) -> None:
    supervisor = tiny_supervisor(tmp_path)
    (weights,) = (tmp_path / "language_model").glob("*.safetensors")
    weights.unlink()
    with pytest.raises(RuntimeError, match="(?s)tensor_parallel=2 parts failed:\nTraceback.*weights"):
        build(supervisor, shared(), 50)
    assert not parts_of(os.getpid())


SETTINGS = Settings.model_validate(
    {
        "rollout": {
            "tensor_parallel": PARTS,
            "group_size": checks.GROUP,
            "max_new_tokens": 12,
            "kv_cache_gib": 0.1,
            "group_timeout_s": 600,
        }
    }
)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_part_outlives_its_actor_and_lost_groups_come_back(session_ray: None, tmp_path: Path) -> None:
    supervisor = tiny_supervisor(tmp_path)
    started = start_engines(SETTINGS, supervisor.folder)
    (actor,) = started.actors
    with closing(open_pool(started, SETTINGS, supervisor.verdict_key)) as pool:
        expected = answers(pool, supervisor, 0)
        first, parts = pid_of(actor), parts_of(pid_of(actor))
        assert len(parts) == PARTS

        found = answers(pool, supervisor, 1, meanwhile=lambda: os.kill(first, signal.SIGKILL))
        assert found == expected and pool.stats().restarts == 1
        wait_until_gone(parts)

        second, parts = pid_of(actor), parts_of(pid_of(actor))
        assert second != first and len(parts) == PARTS
        found = answers(pool, supervisor, 2, meanwhile=parts[1].kill)
        assert found == expected and pool.stats().restarts == 2
        wait_until_gone([*parts, psutil.Process(second)] if psutil.pid_exists(second) else parts)
        parts = parts_of(pid_of(actor))
        assert len(parts) == PARTS
        shared_memory = {path for part in parts for path in shared_memory_of(part)}
        assert shared_memory
    started.close()
    wait_until_gone(parts)
    assert not [path for path in shared_memory if path.exists()]


def answers(
    pool: Pool, supervisor: TinySupervisor, step: int, meanwhile: Callable[[], None] = lambda: None
) -> list[list[list[int]]]:
    """To the same pairs at every step; something happens once they are asked for."""
    requests = [
        PairRequest(
            step=step,
            round=0,
            pair=pair,
            same=True,
            prompt=prompt,
            seeds=tuple(completion_seed(1, 0, 0, pair, g) for g in range(checks.GROUP)),
            sampling=Sampling.of(SETTINGS.rollout),
            encoder_version=0,
        )
        for pair, prompt in enumerate(checks.pair_prompts(supervisor, PAIRS))
    ]
    client = pool.client(wanted=PAIRS + 1)
    client.submit(step, 0, requests, range(PAIRS))
    meanwhile()
    groups = client.decided(step, 0)
    return [[completion.token_ids for completion in group.completions] for group in groups]


def pid_of(actor: Any) -> int:
    pid: int = ray.get(actor.__ray_call__.remote(lambda self: os.getpid()))
    return pid


def parts_of(pid: int) -> list[psutil.Process]:
    """The processes that compute for an engine's."""
    children = psutil.Process(pid).children(recursive=True)
    return [child for child in children if "VLLM::Worker" in " ".join(child.cmdline())]


def shared_memory_of(process: psutil.Process) -> list[Path]:
    """What it shares with the other processes of its engine."""
    mapped = [Path(each.path) for each in process.memory_maps()]
    return [path for path in mapped if path.name.startswith(("psm_", "vllm"))]


def wait_until_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_S)
    assert not alive, f"left behind: {alive}"
