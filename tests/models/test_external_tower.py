"""External towers against the library's own model: tokens, gradients, what is stored, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel
from transformers.models.siglip2.image_processing_pil_siglip2 import convert_image_to_patches

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.models.towers.conversion.external import of_checkpoint
from tests.models.tiny_external import DEVIATION, KINDS, MEAN, PATCH, WIDTH, checkpoint, pictures

BEFORE = {"dinov2": 1, "dinov2_with_registers": 5, "dinov3_vit": 4, "clip": 1, "vit": 1, "beit": 1}
"""Class and register tokens before those of the patches."""
EXACT = {"rtol": 1e-9, "atol": 1e-10}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """Folder and vision model of each kind."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
    return {kind: (folder, checkpoint(folder, kind).double()) for kind, folder in folders.items()}


def library_tokens(kind: str, model: Any, pixels_BCHW: Tensor) -> Tensor:
    """The patches' part of `last_hidden_state`, the model called as its documentation says."""
    if kind == "siglip2":
        patches = [convert_image_to_patches(pixels_CHW, PATCH) for pixels_CHW in pixels_BCHW.detach().numpy()]
        side = pixels_BCHW.shape[-1] // PATCH
        output = model(
            pixel_values=torch.stack([torch.from_numpy(each) for each in patches]),
            pixel_attention_mask=torch.ones(len(patches), side**2, dtype=torch.long),
            spatial_shapes=torch.tensor([[side, side]] * len(patches)),
        )
    elif kind in ("clip", "siglip", "vit"):
        output = model(pixel_values=pixels_BCHW, interpolate_pos_encoding=True)
    else:
        output = model(pixel_values=pixels_BCHW)
    x_BND: Tensor = output.last_hidden_state[:, BEFORE.get(kind, 0) :]
    return x_BND


@pytest.mark.parametrize("side", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_the_librarys_at_the_models_own_size_and_at_another(
    made: dict[str, tuple[Path, Any]], kind: str, side: int
) -> None:
    folder, model = made[kind]
    tower = of_checkpoint(folder, side * PATCH).double()
    images_BHWC = pictures(2, side * PATCH)
    mean, deviation = (torch.tensor(each, dtype=torch.float32) for each in (MEAN, DEVIATION))
    pixels_BHWC = (images_BHWC.double() / 255 - mean.double()) / deviation.double()
    expected_BND = library_tokens(kind, model, pixels_BHWC.permute(0, 3, 1, 2))
    x_BND = tower(images_BHWC)
    torch.testing.assert_close(x_BND, expected_BND, **EXACT)
    assert x_BND.shape == (2, tower.tokens_per_image, tower.token_width) == (2, side**2, WIDTH)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "siglip2"])
def test_the_gradient_at_the_pixels_is_the_librarys(made: dict[str, tuple[Path, Any]], kind: str) -> None:
    folder, model = made[kind]
    tower = of_checkpoint(folder).double()
    pixels_BCHW = tower.pixels(pictures(2, 42)).detach()
    weight_BND = torch.randn(2, 9, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = []
    for tokens in (tower.encode, lambda pixels: library_tokens(kind, model, pixels)):
        given_BCHW = pixels_BCHW.clone().requires_grad_(True)
        gradients += torch.autograd.grad((tokens(given_BCHW) * weight_BND).sum(), given_BCHW)
    assert gradients[1].abs().amax() > 1e-3
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_trains_and_nothing_is_random(made: dict[str, tuple[Path, Any]], kind: str) -> None:
    tower = of_checkpoint(made[kind][0])
    images_BHWC = pictures(2, tower.image_size)
    at_rest_BND = tower.eval()(images_BHWC)
    assert torch.equal(tower.train()(images_BHWC), at_rest_BND)
    at_rest_BND.square().sum().backward()
    assert all(each.requires_grad and each.grad is not None for each in tower.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_stored_exactly_alone_and_in_an_encoder(
    made: dict[str, tuple[Path, Any]], kind: str, tmp_path: Path
) -> None:
    tower = of_checkpoint(made[kind][0])
    assert json.loads(json.dumps(tower.config())) == tower.config()
    images_BHWC = pictures(2, tower.image_size)
    towers.save(tower, tmp_path / "tower")
    assert torch.equal(towers.load(tmp_path / "tower")(images_BHWC), tower(images_BHWC))
    encoder = Encoder(tower, Pooler(tower.pooled_width, 8))
    encoder.save(tmp_path / "encoder")
    assert torch.equal(Encoder.load(tmp_path / "encoder")(images_BHWC), encoder(images_BHWC))


def test_a_tower_can_be_built_without_memory(made: dict[str, tuple[Path, Any]]) -> None:
    config = of_checkpoint(made["dinov3_vit"][0]).config()
    with torch.device("meta"):
        tower = towers.build("external", config)
    assert all(each.is_meta for each in tower.parameters()) and tower.tokens_per_image == 9


@pytest.mark.parametrize(
    ("processor", "asked", "size"),
    [
        ({}, None, 42),
        ({}, 28, 28),
        ({"size": {"shortest_edge": 56}, "do_center_crop": True, "crop_size": {"height": 30}}, None, 28),
        ({"size": {"shortest_edge": 56}, "do_center_crop": False, "crop_size": {"height": 30}}, None, 56),
        ({"size": 45}, None, 42),
        ({"size": None}, None, 224),
    ],
)
def test_pictures_are_as_large_as_asked_or_as_the_processor_makes_them(
    processor: dict[str, Any], asked: int | None, size: int, tmp_path: Path
) -> None:
    checkpoint(tmp_path, **processor)
    assert of_checkpoint(tmp_path, asked).image_size == size


# What cannot be a tower


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("convnext", {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}),
        ("swin", {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1], "image_size": 32, "window_size": 2}),
        ("vit_mae", {"decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "image_size": 28}),
        ("yolos", {"image_size": [28, 28], "num_detection_tokens": 3}),
        ("llama", {"vocab_size": 20}),
    ],
)
def test_what_gives_no_token_a_patch_is_refused(kind: str, settings: dict[str, Any], tmp_path: Path) -> None:
    common = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    if kind in ("convnext", "swin"):
        common = {}
    AutoModel.from_config(AutoConfig.for_model(kind, **common, **settings)).save_pretrained(tmp_path)
    with pytest.raises(UserError, match=f"of type '{kind}', which does not give one token a patch") as raised:
        of_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"image_size=40, but a token of external covers 14 x 14 pixels"):
        of_checkpoint(tmp_path, 40)
    weights, processor = tmp_path / "model.safetensors", tmp_path / "preprocessor_config.json"
    kept = weights.read_bytes()
    weights.unlink()
    with pytest.raises(UserError, match="not complete: its weights as safetensors must be there"):
        of_checkpoint(tmp_path)
    weights.write_bytes(kept)
    processor.write_text(json.dumps({"image_mean": MEAN, "image_std": DEVIATION, "do_normalize": False}))
    with pytest.raises(UserError, match="does not bring pixels to 0…1 and normalise them"):
        of_checkpoint(tmp_path)
    processor.unlink()
    with pytest.raises(UserError, match="preprocessor_config.json with image_mean and image_std"):
        of_checkpoint(tmp_path)
    with pytest.raises(UserError, match="There is no checkpoint in .*: config.json is missing"):
        of_checkpoint(tmp_path / "nowhere")


def test_a_checkpoint_that_lacks_a_weight_is_refused(tmp_path: Path) -> None:
    model = checkpoint(tmp_path)
    state = {name: value for name, value in model.state_dict().items() if "layernorm.bias" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(UserError, match="lacks the weight 'layernorm.bias'"):
        of_checkpoint(tmp_path)
