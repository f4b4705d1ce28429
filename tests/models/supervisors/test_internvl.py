"""The InternVL family against transformers' own whole forward, on tiny random models, in float64."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import InternVLProcessor, ProcessorMixin

from saga_ray.models.supervisors.internvl import load
from saga_ray.prompts.template import Style
from tests.models.supervisors import projected
from tests.models.supervisors import tiny_internvl as tiny
from tests.models.supervisors.projected import Pair
from tests.models.supervisors.tiny_internvl import PIXELS

LARGE = 84
"""Pixels of 3 x 3 tokens: the table of positions is interpolated."""
VARIANT = {"use_qk_norm": True, "norm_type": "rms_norm", "use_mean_pooling": False}
"""The vision model of 6 billion weights differs so from that of 300 million, but for the pooling."""

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "InternVL3.5": ("qwen3", PIXELS, {}),
    "InternVL3.5, other size": ("qwen3", LARGE, {}),
    "InternVL3": ("qwen2", PIXELS, {}),
    "InternVL3, other vision model": ("llama", LARGE, VARIANT),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {
        name: tiny.pair(tmp_path_factory.mktemp("internvl"), language, size, vision)
        for name, (language, size, vision) in CASES.items()
    }


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, made: dict[str, Pair]) -> Pair:
    return made[request.param]


# The seam


def test_tokens_are_what_the_language_model_gets(case: Pair) -> None:
    projected.check_tokens(case)


def test_the_tower_comes_fresh_and_trainable_and_is_stored_exactly(case: Pair, tmp_path: Path) -> None:
    projected.check_tower_is_fresh_and_stored(case, tmp_path)


@pytest.mark.parametrize("size", [PIXELS, 224, 61])
def test_pictures_are_prepared_as_the_models_own_processor_does(case: Pair, size: int) -> None:
    projected.check_preparation(case, tiny.processor(case.size), size)


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_are_those_of_the_models_own_processor(
    case: Pair, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    # it insists on a processor of videos, which needs torchvision
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    processor = InternVLProcessor(
        image_processor=tiny.processor(case.size),
        tokenizer=case.supervisor.tokenizer,
        image_seq_length=case.side**2,
    )
    projected.check_token_ids(case, style, processor, crop_to_patches=False)


def test_engines_get_the_same_prompt(case: Pair) -> None:
    projected.check_engine_prompts(case)


# Replay


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_replay_equals_the_whole_model_from_the_pixels(case: Pair, shared_prefix: bool) -> None:
    projected.check_replay(case, shared_prefix)


def test_greedy_answers_are_the_whole_models(case: Pair) -> None:
    projected.check_greedy_answers(case)


def test_no_weight_gets_a_gradient(case: Pair) -> None:
    projected.check_frozen(case, tiny.LAYERS)


# Composed retrieval


@pytest.mark.parametrize("ended", [False, True])
def test_the_embedder_reads_the_whole_models_last_state(case: Pair, ended: bool) -> None:
    projected.check_embedder(case, ended)


def test_bfloat16_is_the_language_models_alone(made: dict[str, Pair]) -> None:
    both = made["InternVL3.5"]
    half = load(both.supervisor.folder, "bfloat16")
    tower = half.build_tower()
    assert half.language_model.dtype == torch.bfloat16
    assert next(tower.parameters()).dtype == torch.float32
    x_BND = tower(both.shown)
    assert half.prompt_embeddings(x_BND[:1], x_BND[1:], "generic").dtype == torch.bfloat16
