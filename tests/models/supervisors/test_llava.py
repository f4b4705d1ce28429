"""The LLaVA family against transformers' own whole forward, on tiny random models, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, LlavaProcessor, SiglipImageProcessorPil

from saga_ray.composed.embedder import Embedder
from saga_ray.data.decoding import centre_square
from saga_ray.models import towers
from saga_ray.models.supervisors.llava import load
from saga_ray.models.towers.clip import Clip
from saga_ray.prompts.template import Style, instruction
from tests.models.supervisors.tiny_llava import (
    LAYERS,
    PATCH,
    PIXELS,
    TOKENS,
    Pair,
    pair,
    pictures,
)
from tests.models.supervisors.whole_forward import EXACT, check_embedder, check_replay, prompt_ids

LANGUAGES = ["llama", "phi3", "qwen2", "mistral"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {language: pair(tmp_path_factory.mktemp(language), language) for language in LANGUAGES}


@pytest.fixture(params=LANGUAGES)
def case(request: pytest.FixtureRequest, pairs: dict[str, Pair]) -> Pair:
    return pairs[request.param]


# The seam


@pytest.mark.parametrize(
    ("vision", "layer"), [("clip", -2), ("clip", -1), ("clip", 1), ("siglip", -2), ("siglip", -1)]
)
def test_tokens_and_their_projection_equal_transformers(vision: str, layer: int, tmp_path: Path) -> None:
    case = pair(tmp_path, vision=vision, vision_feature_layer=layer)
    tower = case.tower()
    images_BHWC = pictures(3)
    pixels_BCHW = tower.pixels(images_BHWC)
    states = case.whole.model.vision_tower(pixels_BCHW, output_hidden_states=True).hidden_states
    x_BND = tower(images_BHWC)
    torch.testing.assert_close(x_BND, states[layer][:, vision == "clip" :], **EXACT)
    expected_BNH = torch.stack(list(case.whole.get_image_features(pixels_BCHW).pooler_output))
    e_BNH = case.supervisor.image_embeddings(x_BND)
    torch.testing.assert_close(e_BNH, expected_BNH, **EXACT)
    assert x_BND.shape == (3, tower.tokens_per_image, tower.token_width) == (3, TOKENS, 32)


def test_the_tower_comes_fresh_and_trainable_and_is_stored_exactly(
    pairs: dict[str, Pair], tmp_path: Path
) -> None:
    first, second = (pairs["llama"].supervisor.build_tower() for _ in range(2))
    assert isinstance(first, Clip) and all(each.requires_grad for each in first.parameters())
    with torch.no_grad():
        first.embeddings.patch_embedding.weight.add_(1)
    assert not torch.equal(first.embeddings.patch_embedding.weight, second.embeddings.patch_embedding.weight)
    towers.save(first, tmp_path)
    assert torch.equal(towers.load(tmp_path)(pictures(2)), first(pictures(2)))
    # all of it takes part, so that no parameter is without gradient
    first(pictures(2)).square().sum().backward()
    assert all(each.grad is not None for each in first.parameters())


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("size", [PIXELS, 61])
def test_pictures_are_prepared_as_the_models_own_processor_does(kind: str, size: int) -> None:
    """Square ones: resized by the data pipeline, normalised by the tower."""
    picture = Image.fromarray(pictures(1, size)[0].numpy())
    if kind == "clip":
        processor = CLIPImageProcessorPil(
            size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}
        )
    else:
        processor = SiglipImageProcessorPil(size={"height": PIXELS, "width": PIXELS})
    expected_CHW = torch.from_numpy(processor(picture, return_tensors="np")["pixel_values"][0])
    tower = Clip(kind, PIXELS, PATCH, 8, 8, 1, 1, "gelu", 1e-5)  # type: ignore[arg-type]
    ours_CHW = tower.pixels(torch.from_numpy(centre_square(picture, PIXELS).copy())[None])[0]
    torch.testing.assert_close(ours_CHW, expected_CHW, rtol=0, atol=1e-6)


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_are_those_of_the_models_own_processor(case: Pair, style: Style) -> None:
    supervisor = case.supervisor
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}
        ),
        tokenizer=supervisor.tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    asked = supervisor.chat._render(  # what a user would render
        instruction(supervisor.words, style), 2, supervisor.chat._in_parts
    )
    images = [Image.fromarray(picture.numpy()) for picture in pictures(2)]
    expected = processor(text=asked, images=images)["input_ids"][0]
    assert prompt_ids(supervisor, style) == list(expected)
    image_id = supervisor.chat.image_token_id
    span_a, span_b = supervisor.image_spans(style)
    at = [place for place, token in enumerate(expected) if token == image_id]
    everything = range(len(expected))
    assert at == [*everything[span_a], *everything[span_b]] and len(at) == 2 * TOKENS


def test_engines_get_the_same_prompt(case: Pair) -> None:
    x_2PND = torch.randn(2, 3, TOKENS, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x_a_PND, x_b_PND = x_2PND
    expected_PLH = case.supervisor.prompt_embeddings(x_a_PND.requires_grad_(True), x_b_PND, "generic")
    for row, prompt in enumerate(case.supervisor.engine_prompts(x_a_PND, x_b_PND, "generic")):
        assert prompt.embeds_LH is not None and not prompt.embeds_LH.requires_grad
        assert torch.equal(prompt.embeds_LH, expected_PLH[row])
        assert len(prompt.token_ids) == expected_PLH.shape[1]


# Replay


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_replay_equals_the_whole_model_from_the_pixels(case: Pair, shared_prefix: bool) -> None:
    check_replay(case.whole, case.supervisor, case.tower(), pictures(2), shared_prefix)


def test_no_weight_gets_a_gradient(case: Pair) -> None:
    assert not any(each.requires_grad for each in case.supervisor.parameters())
    assert case.supervisor.layers == LAYERS and not case.supervisor.training


# Composed retrieval


@pytest.mark.parametrize("ended", [False, True])
def test_the_embedder_reads_the_whole_models_last_state(case: Pair, ended: bool) -> None:
    check_embedder(case.whole, case.supervisor, pictures(2), ended)


def test_adapters_train_merge_and_are_stored(tmp_path: Path) -> None:
    supervisor = pair(tmp_path, "phi3").supervisor.float()
    embedder = Embedder(supervisor)
    x_BND = embedder.tokens(pictures(2))
    with torch.no_grad():
        start_BE = embedder.images(x_BND)
    embedder.adapt(rank=4, alpha=8, dropout=0.05, seed=1)
    names = {name for name, each in embedder.named_parameters() if each.requires_grad}
    assert {name.rpartition("lora_")[0].split(".")[-2] for name in names if "lora_" in name} == {
        "qkv_proj",
        "o_proj",
        "gate_up_proj",
        "down_proj",
    }
    assert {name for name in names if "lora_" not in name} == {
        f"supervisor.projector.linear_{k}.{each}" for k in (1, 2) for each in ("weight", "bias")
    }
    embedder.train()
    optimizer = torch.optim.SGD(embedder.trained(), lr=1.0)
    for _ in range(2):  # an adapter's first half learns once its second is no longer zero
        optimizer.zero_grad()
        (embedder.composed(x_BND, ["in red", "taller"]) * embedder.images(x_BND)).sum().backward()
        optimizer.step()
    assert all(each.grad is not None for each in embedder.trained())
    embedder.eval()
    with torch.no_grad():
        adapted_BE = embedder.images(x_BND)
        embedder.merge()
        merged_BE = embedder.images(x_BND)
        embedder.save(tmp_path / "saved")
        stored_BE = Embedder.load(tmp_path / "saved").images(x_BND)
    assert (adapted_BE - start_BE).norm() > 1e-3
    torch.testing.assert_close(merged_BE, adapted_BE, rtol=0, atol=1e-5)
    assert torch.equal(stored_BE, merged_BE)


def test_bfloat16_changes_the_language_model_alone(pairs: dict[str, Pair]) -> None:
    half = load(pairs["phi3"].supervisor.folder, "bfloat16")
    assert (
        half.language_model.dtype == torch.bfloat16 and half.projector.linear_1.weight.dtype == torch.float32
    )
    x_PND = torch.randn(1, TOKENS, 32)
    assert half.prompt_embeddings(x_PND, x_PND, "generic").dtype == torch.bfloat16
