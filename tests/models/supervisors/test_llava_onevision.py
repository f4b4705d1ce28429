"""LLaVA-OneVision against transformers' own whole forward, on a tiny random model, in float64: two pictures
of a prompt are one tile and a mark each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import LlavaOnevisionImageProcessorPil, LlavaOnevisionProcessor

from saga_ray.cli.command_line import main
from saga_ray.models.supervisors.llava import load
from saga_ray.models.towers.clip import Clip
from saga_ray.prompts.template import Style, instruction
from tests.models.supervisors.tiny_llava import (
    PIXELS,
    TOKENS,
    Pair,
    both_of,
    description,
    onevision_checkpoint,
    pictures,
)
from tests.models.supervisors.whole_forward import (
    EXACT,
    Arguments,
    check_embedder,
    check_replay,
    plain,
    prompt_ids,
)

SIZES = torch.full((2, 2), PIXELS)
TWO: dict[str, Any] = {"image_sizes": SIZES, "batch_num_images": torch.tensor([2])}
"""What the library's processor says of two pictures in a prompt."""


def told(**beside: Any) -> Arguments:
    """What the whole model is given beside a prompt with pictures."""
    return lambda ids_1S, pixels: plain(ids_1S, pixels) | ({} if pixels is None else beside)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("onevision")
    return both_of(onevision_checkpoint(folder / "checkpoint"), folder)


def repeated(asked: str, images: Any) -> str:
    """A text with the placeholder repeated as the model's processor does it. The whole of that needs
    torchvision, for videos."""
    processor = object.__new__(LlavaOnevisionProcessor)
    processor.num_image_tokens, processor.vision_feature_select_strategy = TOKENS, "full"
    processor.image_token = "<image>"
    pieces = asked.split(processor.image_token)
    for number, piece in enumerate(pieces[1:]):
        pieces[number + 1] = processor.replace_image_token(images, number) + piece
    return "".join(pieces)


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_and_pixels_are_those_of_the_models_own_processor(case: Pair, style: Style) -> None:
    supervisor = case.supervisor
    image_processor = LlavaOnevisionImageProcessorPil(
        size={"height": PIXELS, "width": PIXELS},
        image_grid_pinpoints=[[PIXELS, PIXELS], [PIXELS, 2 * PIXELS]],
    )
    images_2HWC = pictures(2)
    images = image_processor([[Image.fromarray(each.numpy()) for each in images_2HWC]], return_tensors="pt")
    assert images["batch_num_images"].tolist() == [2] and images["image_sizes"].tolist() == SIZES.tolist()
    asked = supervisor.chat._render(instruction(supervisor.words, style), 2, True)
    assert prompt_ids(supervisor, style) == supervisor.tokenizer(repeated(asked, images))["input_ids"]
    tower = supervisor.build_tower()
    assert isinstance(tower, Clip)
    statistics = {name: torch.tensor(getattr(image_processor, f"image_{name}")) for name in ("mean", "std")}
    # what the tower normalises with is SigLIP's, which the released checkpoints' processors name
    unnormalised_2CHW = (
        images["pixel_values"][:, 0] * statistics["std"][:, None, None] + statistics["mean"][:, None, None]
    )
    torch.testing.assert_close(tower.pixels(images_2HWC) / 2 + 0.5, unnormalised_2CHW, rtol=0, atol=1e-5)


def test_a_picture_is_its_tokens_and_the_mark(case: Pair) -> None:
    supervisor, tower = case.supervisor, case.tower()
    pixels_2CHW = tower.pixels(pictures(2))
    expected = case.whole.get_image_features(pixels_2CHW, **TWO).pooler_output
    x_2ND = tower.encode(pixels_2CHW)
    prompt_LH = supervisor.prompt_embeddings(x_2ND[:1], x_2ND[1:], "generic")[0]
    for span, packed_KH in zip(supervisor.image_spans("generic"), expected, strict=True):
        assert len(packed_KH) == TOKENS + 1
        torch.testing.assert_close(prompt_LH[span.start : span.stop + 1], packed_KH, **EXACT)


@pytest.mark.parametrize("shared_prefix", [True, False])
def test_replay_equals_the_whole_model_from_the_pixels(case: Pair, shared_prefix: bool) -> None:
    check_replay(case.whole, case.supervisor, case.tower(), pictures(2), shared_prefix, told(**TWO))


def test_the_embedder_reads_the_whole_models_last_state_of_one_tile(case: Pair) -> None:
    # told of two pictures, the library cuts none into tiles
    beside = {"image_sizes": SIZES[:1], "batch_num_images": torch.tensor([2])}
    check_embedder(case.whole, case.supervisor, pictures(2), False, told(**beside))


def test_the_command_makes_it_and_what_it_makes_can_be_copied(case: Pair, tmp_path: Path) -> None:
    arguments = ["--checkpoint", str(case.checkpoint), "--vocabulary", "birds"]
    assert main(["supervisor", "assemble", *arguments, "--output", str(tmp_path / "made")]) == 0
    made = load(tmp_path / "made", "float32")
    assert description(tmp_path / "made")["family"] == "llava"
    (tmp_path / "copy").mkdir()
    made.save(tmp_path / "copy", made.build_tower())
    x_PND = torch.randn(1, TOKENS, 32)
    found = [
        each.prompt_embeddings(x_PND, x_PND, "attributes")
        for each in (made, load(tmp_path / "copy", "float32"))
    ]
    assert torch.equal(*found)
