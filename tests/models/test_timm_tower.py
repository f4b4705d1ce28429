"""Towers of timm against timm's own model: tokens, gradients, what is stored, what is refused.

All but the last two are skipped where timm cannot be imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.models import adapters, towers
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.models.towers.conversion.timm import is_checkpoint, of_checkpoint
from saga_ray.plan import counts, memory
from saga_ray.plan.sizes import BYTES
from saga_ray.plan.towers import tower_sizes
from tests.models import tiny_external
from tests.models.tiny_external import DEVIATION, MEAN, pictures
from tests.models.tiny_timm import KINDS, WIDTH, checkpoint, needed, patch
from tests.plan.models import kept_bytes, operations

EXACT = {"rtol": 1e-9, "atol": 1e-10}
Made = Callable[[str], tuple[Path, Any]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Folder and timm's model, in double precision, of a kind."""
    needed()
    found: dict[str, tuple[Path, Any]] = {}

    def of(kind: str) -> tuple[Path, Any]:
        if kind not in found:
            folder = tmp_path_factory.mktemp(kind)
            found[kind] = folder, checkpoint(folder, kind).double()
        return found[kind]

    return of


def own_tokens(model: Any, pixels_BCHW: Tensor) -> Tensor:
    """The patches' part of timm's `forward_features`."""
    x_BND: Tensor = model.forward_features(pixels_BCHW)[:, model.num_prefix_tokens :]
    return x_BND


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_and_gradients_are_timms_own(made: Made, kind: str) -> None:
    folder, model = made(kind)
    tower = of_checkpoint(folder).double()
    side = 2 * patch(kind)
    images_BHWC = pictures(2, side)
    mean, deviation = (torch.tensor(each, dtype=torch.float32).double() for each in (MEAN, DEVIATION))
    pixels_BCHW = ((images_BHWC.double() / 255 - mean) / deviation).permute(0, 3, 1, 2)
    weight_BND = torch.randn(2, 4, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    found = []
    for tokens in (tower.encode, lambda pixels: own_tokens(model, pixels)):
        given_BCHW = pixels_BCHW.clone().requires_grad_(True)
        x_BND = tokens(given_BCHW)
        gradient_BCHW = torch.autograd.grad((x_BND * weight_BND).sum(), given_BCHW)[0]
        found.append((x_BND, gradient_BCHW))
    (x_BND, mine_BCHW), (expected_BND, expected_BCHW) = found
    torch.testing.assert_close(x_BND, expected_BND, **EXACT)
    torch.testing.assert_close(tower(images_BHWC), expected_BND, **EXACT)
    assert x_BND.shape == (2, tower.tokens_per_image, tower.token_width) == (2, 4, WIDTH)
    assert tower.leading == model.num_prefix_tokens
    assert expected_BCHW.abs().amax() > 1e-3
    torch.testing.assert_close(mine_BCHW, expected_BCHW, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_at_another_size_it_is_the_model_that_timm_brings_to_that_size(kind: str, tmp_path: Path) -> None:
    model, side = checkpoint(tmp_path, kind), 3 * patch(kind)
    tower = of_checkpoint(tmp_path, side).double()
    model.set_input_size(img_size=(side, side))
    pixels_BCHW = tower.pixels(pictures(2, side))
    # positions are resampled in float32, from weights and from a file alike
    torch.testing.assert_close(tower.encode(pixels_BCHW), own_tokens(model.double(), pixels_BCHW), **EXACT)
    assert tower.tokens_per_image == 9


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_trains_and_nothing_is_random(made: Made, kind: str) -> None:
    folder, model = made(kind)
    tower = of_checkpoint(folder)
    images_BHWC = pictures(2, tower.image_size)
    at_rest_BND = tower.eval()(images_BHWC)
    assert torch.equal(tower.train()(images_BHWC), at_rest_BND)
    (at_rest_BND * torch.randn(at_rest_BND.shape)).sum().backward()
    weights = dict(tower.visual.named_parameters())
    assert all(each.grad is not None and each.grad.any() for each in weights.values())
    left_out = {name for name, _ in model.named_parameters()} - set(weights)
    assert {name.partition(".")[0] for name in left_out} <= {"head", "head_dist", "attn_pool", "fc_norm"}


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_stored_exactly_alone_and_in_an_encoder(made: Made, kind: str, tmp_path: Path) -> None:
    tower = of_checkpoint(made(kind)[0], 3 * patch(kind))
    assert json.loads(json.dumps(tower.config())) == tower.config()
    images_BHWC = pictures(2, tower.image_size)
    towers.save(tower, tmp_path / "tower")
    assert torch.equal(towers.load(tmp_path / "tower")(images_BHWC), tower(images_BHWC))
    encoder = Encoder(tower, Pooler(tower.pooled_width, 8), "bfloat16")
    encoder.save(tmp_path / "encoder")
    assert torch.equal(Encoder.load(tmp_path / "encoder")(images_BHWC), encoder(images_BHWC))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_begin_as_nothing_and_all_of_them_learn(made: Made, kind: str) -> None:
    tower = of_checkpoint(made(kind)[0])
    images_BHWC = pictures(2, tower.image_size)
    whole_BND = tower(images_BHWC).detach()
    adapters.adapt(tower, rank=2, alpha=4, seed=1)
    x_BND = tower(images_BHWC)
    torch.testing.assert_close(x_BND, whole_BND, rtol=1e-5, atol=1e-6)
    (x_BND * torch.randn(x_BND.shape)).sum().backward()
    seconds = {name: each for name, each in tower.named_parameters() if "lora_B" in name}
    assert len(seconds) >= 8  # of two layers, four maps each
    assert all(each.grad is not None and each.grad.any() for each in seconds.values())


@pytest.mark.parametrize("precision", BYTES)
@pytest.mark.parametrize("kind", KINDS)
def test_its_sizes_are_known_to_the_plan(made: Made, kind: str, precision: str) -> None:
    tower = of_checkpoint(made(kind)[0])
    sizes = tower_sizes("timm", dict(tower.config()))
    assert sizes.parameters == sum(each.numel() for each in tower.parameters())
    assert (sizes.tokens, sizes.token_width) == (4, WIDTH)
    assert operations(lambda: tower(pictures(3, tower.image_size))) == counts.encode(sizes, 3)
    counted: list[int] = []
    rounded = precision == "bfloat16"
    for count in (2, 5):
        with kept_bytes([tower], counted), torch.autocast("cpu", torch.bfloat16, enabled=rounded):
            x_BND = tower(pictures(count, tower.image_size))
    # of three pictures: what is kept once, such as rotary angles, weighs in a model so small
    two, five = (memory.tower_kept(sizes, count, BYTES[precision]) for count in (2, 5))
    assert counted[1] - counted[0] == pytest.approx(five - two, rel=0.001), x_BND.shape


def test_a_checkpoint_without_arguments_is_its_architectures_own(tmp_path: Path) -> None:
    """As most of timm's are published."""
    timm, folder = needed(), tmp_path
    model = timm.create_model("vit_tiny_patch16_224").eval()
    save_file(model.state_dict(), folder / "model.safetensors")
    said = {"input_size": [3, 224, 224], "mean": MEAN, "std": DEVIATION, "fixed_input_size": True}
    stored = {"architecture": "vit_tiny_patch16_224", "num_classes": 1000, "num_features": 192}
    said |= {"num_classes": 1000, "classifier": "head", "first_conv": "patch_embed.proj"}
    (folder / "config.json").write_text(json.dumps({**stored, "pretrained_cfg": said}))
    tower = of_checkpoint(folder)
    assert (tower.image_size, tower.tokens_per_image, tower.token_width, tower.layers) == (224, 196, 192, 12)
    pixels_BCHW = tower.pixels(pictures(1, 224))
    torch.testing.assert_close(tower.encode(pixels_BCHW), own_tokens(model, pixels_BCHW))


# What cannot be a tower


@pytest.mark.parametrize(
    "kind", ["convnext_atto", "swin_tiny_patch4_window7_224", "samvit_base_patch16", "cait_xxs24_224"]
)
def test_what_gives_no_token_a_patch_at_any_size_is_refused(kind: str, tmp_path: Path) -> None:
    needed()
    said = {"input_size": [3, 224, 224], "mean": MEAN, "std": DEVIATION}
    (tmp_path / "config.json").write_text(json.dumps({"architecture": kind, "pretrained_cfg": said}))
    with pytest.raises(UserError, match=f"timm's '{kind}', which does not give one token a patch") as raised:
        of_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    kind = "vit_tiny_patch16_224"
    checkpoint(tmp_path, kind)
    for size in (40, 8):
        with pytest.raises(UserError, match=rf"image_size={size}, but a token of timm covers 16 x 16 pixels"):
            of_checkpoint(tmp_path, size)
    weights = tmp_path / "model.safetensors"
    state = load_file(weights)
    save_file({name: value for name, value in state.items() if name != "norm.bias"}, weights)
    with pytest.raises(
        UserError, match='cannot read the weights in .* 32 pixels: .*Missing.*"norm.bias"'
    ) as raised:
        of_checkpoint(tmp_path)
    assert "\n" not in str(raised.value)
    weights.unlink()
    with pytest.raises(UserError, match="cannot read the weights"):
        of_checkpoint(tmp_path)
    for shape, said in (([1, 32, 32], "three colours"), ([3, 32, 48], "square")):
        checkpoint(tmp_path, kind, pretrained_cfg={"input_size": shape, "mean": MEAN, "std": DEVIATION})
        with pytest.raises(UserError, match=said):
            of_checkpoint(tmp_path)
    checkpoint(tmp_path, kind, pretrained_cfg={"input_size": [3, 32, 32]})
    with pytest.raises(UserError, match="not complete: config.json must say input_size, mean, std"):
        of_checkpoint(tmp_path)
    checkpoint(tmp_path, kind, architecture="vit_of_tomorrow")
    with pytest.raises(UserError, match="'vit_of_tomorrow', which timm .* does not have"):
        of_checkpoint(tmp_path)


def test_without_timm_it_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "vit_tiny_patch16_224"}))
    assert is_checkpoint(tmp_path)
    said = r"needs timm and torchvision, which cannot be imported \(.*timm.*\): install the extra \[gpu\]\.$"
    with pytest.raises(UserError, match=said):
        of_checkpoint(tmp_path)
    config = {"architecture": "vit_tiny_patch16_224", "model_args": {}, "leading": 1, "idle": []}
    with pytest.raises(UserError, match=said):
        towers.build("timm", {**config, "image_size": 32, "mean": MEAN, "std": DEVIATION})


def test_a_checkpoint_of_transformers_is_not_taken_for_one_of_timm(tmp_path: Path) -> None:
    tiny_external.checkpoint(tmp_path)
    assert not is_checkpoint(tmp_path)
