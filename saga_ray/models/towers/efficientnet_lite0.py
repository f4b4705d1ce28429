"""EfficientNet-lite0 (Tan and Le, arXiv 1905.11946, in its variant for edge devices) as a tower.

Three choices differ from common ports. Padding is TensorFlow's SAME, which the ImageNet weights were trained
with: 112 pixels end at 4x4 tokens, not 3x3. Batch norm is folded into the convolutions: nothing depends on
the batch, and a layer is one convolution and one clamp. Memory is channels-last, which makes it fast on CPUs.

SAME pads an odd number of pixels with one more at the bottom and right; PyTorch pads evenly and lets a stride
drop what is left there. Seen upside down (turned by 180 degrees) the two are equal, so the tower turns its
pictures, keeps its kernels turned, and turns the tokens back: no padded copy of any layer is ever made.

Legend: B images, H height, W width, C channels, N patch tokens, D token width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from saga_ray.models.towers.base import Tower


class Stage(NamedTuple):
    """Blocks of one width; the first one carries the stride."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
TOKEN_WIDTH = 1280
STRIDE = 32
PIXEL_MEAN, PIXEL_SCALE = 127.0, 128.0


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups)


class InvertedBottleneck(nn.Module):
    """Widen each pixel, convolve each channel by itself, narrow again; added to the input if shapes agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = _convolution(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = _convolution(wide, wide, kernel, stride, groups=wide)
        self.project = _convolution(wide, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """One block."""
        wide = x_BCHW if self.expand is None else functional.relu6(self.expand(x_BCHW), inplace=True)
        narrow: Tensor = self.project(functional.relu6(self.depthwise(wide), inplace=True))
        return x_BCHW + narrow if self.residual else narrow


class EfficientNetLite0(Tower):
    """Tokens are the 1,280-channel map of the last convolution, one every 32 pixels; no classifier."""

    name = "efficientnet_lite0"
    token_width = TOKEN_WIDTH

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.tokens_per_image = (-(-image_size // STRIDE)) ** 2
        self.stem = _convolution(3, STEM_CHANNELS, 3, 2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for stage in STAGES:
            for index in range(stage.blocks):
                stride = stage.stride if index == 0 else 1
                blocks.append(
                    InvertedBottleneck(channels, stage.channels, stage.kernel, stride, stage.expansion)
                )
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = _convolution(channels, TOKEN_WIDTH, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack this keyword

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        assert images_BHWC.dtype == torch.uint8, (
            f"the tower normalises uint8 pictures itself, got {images_BHWC.dtype}"
        )
        # flipped, pictures are BHWC in memory still, which is what channels-last means once permuted
        pixels_BHWC = images_BHWC.flip(1, 2).to(self.stem.weight.dtype).sub_(PIXEL_MEAN).div_(PIXEL_SCALE)
        x_BCHW = functional.relu6(self.stem(pixels_BHWC.permute(0, 3, 1, 2)), inplace=True)
        x_BCHW = functional.relu6(self.head(self.blocks(x_BCHW)), inplace=True)
        return x_BCHW.flatten(2).transpose(1, 2).flip(1)

    def config(self) -> dict[str, int]:
        """Arguments of ``build``."""
        return {"image_size": self.image_size}


def build(image_size: int) -> EfficientNetLite0:
    """The tower with random weights, for pictures of this side in pixels."""
    return EfficientNetLite0(image_size)
