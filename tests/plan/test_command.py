"""`saga plan` as users see it."""

from __future__ import annotations

import json
import re

import pytest

from saga_ray.cli.command_line import main
from saga_ray.config.overrides import resolve
from saga_ray.config.presets import preset_names
from saga_ray.models import supervisors
from tests.models.test_paper_presets import IMAGES, MODELS

PAPER = [name for name in preset_names() if resolve(name).supervisor.path not in supervisors.names()]
"""The project's own presets ask a supervisor that ships; the paper's ask released models."""


def test_the_papers_presets_are_of_each_data_set_and_model() -> None:
    assert set(PAPER) == {f"{data}-{model}" for data in IMAGES for model in MODELS}


@pytest.mark.parametrize("preset", PAPER)
def test_every_preset_of_the_paper_is_planned(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", preset, "--gpus", "8", "--gpu", "h200"]) == 0
    shown = capsys.readouterr().out
    for part in ("encode", "prefill", "decode", "replay forward", "replay backward", "tower backward"):
        assert re.search(rf"^  {part} +[\d.,]+ +[\d.,]+ +[\d.,]+$", shown, re.MULTILINE), part
    for said in (
        "KV cache",
        "sequences at a time",
        "optimizer",
        "train.replay_pairs=",
        "rollout : training =",
    ):
        assert said in shown
    assert "--set rollout.actors=" in shown and ("275 steps" in shown or "cub" not in preset)
    assert all(len(line) <= 170 for line in shown.splitlines())


def test_actors_of_several_gpus_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    changes = ["--set", "rollout.tensor_parallel=4", "--set", "rollout.gpus_per_actor=4"]
    assert main(["plan", PAPER[0], "--gpus", "6", "--gpu", "h200", *changes]) == 0
    shown = capsys.readouterr().out
    assert "4 answer (4 an actor), " in shown and "what an actor's GPUs tell one another" in shown


def test_json_has_the_same_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "furniture", "--json", "--utilisation", "0.2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["workload"]["language_parameters"] == 3382528 and found["workload"]["answer_tokens"] == 22
    assert found["utilisation"] == 0.2 and found["gpu"]["name"] == "h200"
    total = sum(part["seconds"] for part in found["parts"])
    assert found["step_seconds"]["one_after_the_other"] == pytest.approx(total)
    assert found["run_seconds"]["one_after_the_other"] == pytest.approx(120 * total)


def test_half_the_utilisation_takes_longer(capsys: pytest.CaptureFixture[str]) -> None:
    took = []
    for share in ("0.4", "0.2"):
        assert main(["plan", "cub-qwen2.5vl-3b", "--json", "--utilisation", share]) == 0
        took.append(json.loads(capsys.readouterr().out)["step_seconds"]["one_after_the_other"])
    assert took[0] < took[1] <= 2 * took[0]


def test_what_cannot_fit_is_one_sentence_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["plan", "cub-qwen3vl-8b", "--gpus", "2", "--gpu", "h100"]
    assert main([*command, "--set", "train.replay_graph=hold"]) == 2
    said = capsys.readouterr()
    assert not said.out
    (sentence,) = said.err.strip().splitlines()
    assert sentence.startswith("saga: replaying 1 pair of 8 answers of 1,024 tokens")
    assert "it needs" in sentence and "GiB of h100 is left" in sentence and "lower rollout" in sentence


@pytest.mark.parametrize("wrong", [["--utilisation", "1.5"], ["--answer-tokens", "1"], ["--bandwidth", "0"]])
def test_wrong_numbers_are_refused(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["plan", "furniture", *wrong])
    assert ended.value.code == 2 and wrong[0] in capsys.readouterr().err
