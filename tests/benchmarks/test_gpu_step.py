"""`benchmarks/gpu_step.py` on small configurations of the released architectures."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.overrides import resolve

TOKENS = 300
CPU = torch.device("cpu")
STEP = ["--small", "--steps", "1", "--answer-tokens", str(TOKENS)]


@pytest.fixture
def part(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """A module of the benchmark, as the script imports it."""
    monkeypatch.syspath_prepend(str(SOURCE_TREE / "benchmarks"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    return importlib.import_module


@pytest.mark.parametrize("preset", ["cars-qwen3vl-8b", "cars-internvl3.5-8b"])
def test_a_step_is_measured_part_by_part(
    preset: str, part: Callable[[str], Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    assert part("gpu_step").main([preset, *STEP, "--output", str(page)]) == 0
    text = page.read_text()
    assert text.strip() == capsys.readouterr().out.strip()
    assert f"    .venv/bin/python benchmarks/gpu_step.py {preset} --small" in text
    assert "1 micro-batch(es) of 8 pictures; 1 pair(s) replayed" in text
    cells = {
        row.split("|")[1].strip(): [cell.strip() for cell in row.split("|")[2:]]
        for row in text.splitlines()
        if row.startswith("| ")
    }
    for name in ("encode", "replay, forward", "replay, backward", "tower, backward", "optimizer", "**step**"):
        seconds, operations, _, share, *_ = cells[name]
        assert float(seconds) > 0 and float(operations) > 0 and share.endswith("%"), name
    assert float(cells["distillation"][0]) > 0
    assert "generate" not in cells
    assert int(cells["naive"][0].replace(",", "")) > int(cells["shared-prefix"][0].replace(",", ""))
    difference = re.search(r"differ by (\S+) of themselves", text)
    assert difference and float(difference[1]) < 0.05, "in bfloat16"
    assert "aten::_scaled_dot_product" in text.partition("answers, masked:")[2]


def test_generation_is_measured_and_its_noise_replaced(part: Callable[[str], Any]) -> None:
    bench = part("gpu.bench")
    models = part("gpu.random_models")
    settings = resolve("cars-qwen2.5vl-3b")
    settings = resolve(settings.name, models.small_settings(settings))
    settings.rollout.max_new_tokens = TOKENS
    measured = bench.Bench(settings, models.build(settings, CPU, small=True), generate=True)
    clock = bench.Meter(CPU)
    result = measured.step(0, clock)
    taught = settings.grpo.informative_pairs * settings.rollout.group_size
    assert len(measured.generated) >= taught and max(measured.generated) == TOKENS
    assert measured.operations(result)["rollout"] > 0 and clock.seconds["rollout"] > 0
    assert result.rollouts["pairs_replayed"] == settings.grpo.informative_pairs
    assert result.losses["distillation"] > 0, "answers describe both pictures"


def test_what_is_built_has_the_sizes_that_saga_plan_counts(part: Callable[[str], Any]) -> None:
    models = part("gpu.random_models")
    for preset in ("cub-qwen3vl-8b", "cub-qwen2.5vl-3b", "cub-internvl3.5-8b"):
        settings = resolve(preset)
        settings = resolve(preset, models.small_settings(settings))
        built = models.build(settings, CPU, small=True)
        language = built.supervisor.language_model
        assert built.sizes.tower.parameters == sum(p.numel() for p in built.tower.parameters())
        assert built.sizes.language.parameters == sum(p.numel() for p in language.parameters())
        assert {p.dtype for p in language.parameters()} == {torch.bfloat16}
        rotary = list(language.buffers())  # not weights: what leaves the meta device must be computed again
        assert rotary and all(each[0] == 1 and bool((each.diff() < 0).all()) for each in rotary)
        assert {p.dtype for p in built.tower.parameters()} == {torch.float32}
        released = models.sizes_of(resolve(preset), small=False)
        words = built.sizes.prompt - 2 * built.sizes.tower.tokens
        assert words == pytest.approx(released.prompt - 2 * released.tower.tokens, rel=0.1)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cub-qwen3vl-8b"], "there is no CUDA device here, which cub-qwen3vl-8b needs: add --small"),
        (["cub-qwen3vl-8b", *STEP[:-1], "50"], "--answer-tokens 50: a whole answer on 28 attributes has"),
        (["furniture", "--small"], "the sizes of the supervisor 'furniture-pocket' are not known: name a pr"),
        (["cub-qwen3vl-8b", "--small", "--steps", "0"], "--steps 0: one step at least"),
        (
            ["cub-qwen3vl-8b", *STEP, "--set", "encoder.lora_rank=8"],
            "leave encoder.lora_rank and train.shard",
        ),
    ],
)
def test_what_cannot_be_measured_is_said(
    words: list[str], said: str, part: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert part("gpu_step").main(words) == 2
    told = capsys.readouterr().err
    assert said in told and told.count("\n") == 1


def test_what_does_not_fit_is_said_before_it_is_built(
    part: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = part("gpu_step")

    class Small:
        total_memory = 22 * 2**30

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Small GPU")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Small())
    monkeypatch.setattr(script, "build", lambda *given, **named: pytest.fail("it was built"))
    assert script.main(["cub-qwen3vl-8b"]) == 2
    assert "do not fit a training GPU" in capsys.readouterr().err
