"""The InternVL family against transformers' own whole forward, on tiny random models, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import InternVLProcessor, ProcessorMixin

from saga_ray.data.decoding import centre_square
from saga_ray.models import towers
from saga_ray.models.greedy import greedy
from saga_ray.models.supervisors.internvl import load
from saga_ray.models.towers.internvl import InternVLTower
from saga_ray.prompts.template import Style, instruction
from tests.models.supervisors import tiny_internvl as tiny
from tests.models.supervisors.tiny_internvl import PIXELS, Pair
from tests.models.supervisors.tiny_llava import pictures
from tests.models.supervisors.whole_forward import EXACT, check_embedder, check_replay, prompt_ids

LARGE = 84
"""Pixels of 3 x 3 tokens: the table of positions is interpolated."""
VARIANT = {"use_qk_norm": True, "norm_type": "rms_norm", "use_mean_pooling": False}
"""The vision model of 6 billion weights differs so from that of 300 million, but for the pooling."""


@dataclass
class Case:
    both: Pair
    size: int

    @property
    def tokens(self) -> int:
        return (self.size // tiny.PATCH // tiny.MERGE) ** 2


CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "InternVL3.5": ("qwen3", PIXELS, {}),
    "InternVL3.5, other size": ("qwen3", LARGE, {}),
    "InternVL3": ("qwen2", PIXELS, {}),
    "InternVL3, other vision model": ("llama", LARGE, VARIANT),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    return {
        name: Case(tiny.pair(tmp_path_factory.mktemp("internvl"), language, size, vision), size)
        for name, (language, size, vision) in CASES.items()
    }


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, made: dict[str, Case]) -> Case:
    return made[request.param]


# The seam


def test_tokens_are_what_the_language_model_gets(case: Case) -> None:
    tower, images_BHWC = case.both.tower(), pictures(3, case.size)
    x_BND = tower(images_BHWC)
    expected_BND = case.both.whole.get_image_features(tower.pixels(images_BHWC)).pooler_output
    torch.testing.assert_close(x_BND, expected_BND, **EXACT)
    assert x_BND.shape == (3, case.tokens, tiny.HIDDEN)
    assert (tower.tokens_per_image, tower.token_width, tower.pooled_width) == (case.tokens, 64, 64)
    assert expected_BND.std(1).mean() > 0.05, "places are told apart"
    torch.testing.assert_close(tower(images_BHWC[1:2]), x_BND[1:2], **EXACT)
    assert torch.equal(case.both.supervisor.image_embeddings(x_BND), x_BND)


def test_the_tower_comes_fresh_and_trainable_and_is_stored_exactly(case: Case, tmp_path: Path) -> None:
    first, second = (case.both.supervisor.build_tower() for _ in range(2))
    assert isinstance(first, InternVLTower) and all(each.requires_grad for each in first.parameters())
    with torch.no_grad():
        first.projector.linear_1.weight.add_(1)  # type: ignore[union-attr, operator]
    assert not torch.equal(first(pictures(1, case.size)), second(pictures(1, case.size)))
    towers.save(first, tmp_path)
    assert torch.equal(towers.load(tmp_path)(pictures(2, case.size)), first(pictures(2, case.size)))
    # all of it takes part, so that no parameter is without gradient
    first.train()(pictures(2, case.size)).square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in first.parameters())
    assert first.visual.config._attn_implementation == "sdpa"  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [PIXELS, 224, 61])
def test_pictures_are_prepared_as_the_models_own_processor_does(case: Case, size: int) -> None:
    """Square ones: resized by the data pipeline, normalised by the tower."""
    picture = Image.fromarray(pictures(1, size)[0].numpy())
    expected = tiny.processor(case.size)(picture, return_tensors="pt")["pixel_values"]
    cut = torch.from_numpy(centre_square(picture, case.size).copy())[None]
    ours = case.both.supervisor.build_tower().pixels(cut)  # type: ignore[operator]
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_are_those_of_the_models_own_processor(
    case: Case, style: Style, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = case.both.supervisor
    # it insists on a processor of videos, which needs torchvision
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    processor = InternVLProcessor(
        image_processor=tiny.processor(case.size),
        tokenizer=supervisor.tokenizer,
        image_seq_length=case.tokens,
    )
    asked = supervisor.chat._render(instruction(supervisor.words, style), 2, in_parts=True)
    images = [Image.fromarray(picture.numpy()) for picture in pictures(2, case.size)]
    expected = processor(text=asked, images=images, crop_to_patches=False)["input_ids"][0]
    assert prompt_ids(supervisor, style) == list(expected)
    span_a, span_b = supervisor.image_spans(style)
    at = [place for place, token in enumerate(expected) if token == supervisor.chat.image_token_id]
    everything = range(len(expected))
    assert at == [*everything[span_a], *everything[span_b]] and len(at) == 2 * case.tokens


def test_engines_get_the_same_prompt(case: Case) -> None:
    shape = 2, 3, case.tokens, tiny.HIDDEN
    x_a_PND, x_b_PND = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    supervisor = case.both.supervisor
    expected_PLH = supervisor.prompt_embeddings(x_a_PND.requires_grad_(True), x_b_PND, "generic")
    for row, prompt in enumerate(supervisor.engine_prompts(x_a_PND, x_b_PND, "generic")):
        assert prompt.embeds_LH is not None and not prompt.embeds_LH.requires_grad
        assert torch.equal(prompt.embeds_LH, expected_PLH[row])
        assert len(prompt.token_ids) == expected_PLH.shape[1]


# Replay


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_replay_equals_the_whole_model_from_the_pixels(case: Case, shared_prefix: bool) -> None:
    both = case.both
    check_replay(both.whole, both.supervisor, both.tower(), pictures(2, case.size), shared_prefix)


def test_greedy_answers_are_the_whole_models(case: Case) -> None:
    both, images_BHWC = case.both, pictures(2, case.size)
    tower = both.tower()
    x_BND = tower(images_BHWC).detach()
    ours_PT = greedy(both.supervisor, x_BND[:1], x_BND[1:], "generic", 12)
    ids = prompt_ids(both.supervisor, "generic")
    whole_1S = both.whole.generate(
        input_ids=torch.tensor([ids]),
        pixel_values=tower.pixels(images_BHWC),
        do_sample=False,
        max_new_tokens=12,
    )
    theirs = whole_1S[0, len(ids) :].tolist()
    assert len(theirs) > 1 and ours_PT[0].tolist()[: len(theirs)] == theirs


def test_no_weight_gets_a_gradient(case: Case) -> None:
    supervisor = case.both.supervisor
    assert not any(each.requires_grad for each in supervisor.parameters())
    assert supervisor.layers == tiny.LAYERS and not supervisor.training


# Composed retrieval


@pytest.mark.parametrize("ended", [False, True])
def test_the_embedder_reads_the_whole_models_last_state(case: Case, ended: bool) -> None:
    check_embedder(case.both.whole, case.both.supervisor, pictures(2, case.size), ended)


def test_bfloat16_is_the_language_models_alone(made: dict[str, Case]) -> None:
    half = load(made["InternVL3.5"].both.supervisor.folder, "bfloat16")
    tower = half.build_tower()
    assert half.language_model.dtype == torch.bfloat16
    assert next(tower.parameters()).dtype == torch.float32
    x_BND = tower(pictures(2, PIXELS))
    assert half.prompt_embeddings(x_BND[:1], x_BND[1:], "generic").dtype == torch.bfloat16
