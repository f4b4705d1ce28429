"""EfficientNet-lite0 (Tan and Le, arXiv 1905.11946, in its variant for edge devices) as a tower.

Three choices differ from common ports. Padding is TensorFlow's SAME, uneven where a stride leaves it so,
which the ImageNet weights were trained with: 112 pixels end at 4x4 tokens, not 3x3. Batch norm is folded
into the convolutions: nothing depends on the batch, and a forward pass is one convolution and one clamp a
layer. Memory is channels-last, which is what makes it fast on a CPU.

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


class SameConv2d(nn.Conv2d):
    """A convolution whose output is the input's size over the stride, rounded up; an odd padding leans to
    the bottom and right."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__(channels_in, channels_out, kernel, stride, groups=groups, bias=True)

    def _padding_of(self, size: int) -> int:
        kernel, stride = self.kernel_size[0], self.stride[0]
        outputs = -(-size // stride)
        return max((outputs - 1) * stride + kernel - size, 0)

    def forward(self, input: Tensor) -> Tensor:
        """Same as ``nn.Conv2d`` but for the padding."""
        rows, columns = (self._padding_of(size) for size in input.shape[-2:])
        if rows % 2 == 0 and columns % 2 == 0:
            padding = (rows // 2, columns // 2)
        else:
            input = functional.pad(input, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
            padding = (0, 0)
        return functional.conv2d(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )


class InvertedBottleneck(nn.Module):
    """Widen each pixel, convolve each channel by itself, narrow again; added to its input where the shapes
    agree."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        self.expand = SameConv2d(channels_in, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.project = SameConv2d(wide, channels_out, 1)
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """One block."""
        wide = x_BCHW if self.expand is None else functional.relu6(self.expand(x_BCHW), inplace=True)
        narrow: Tensor = self.project(functional.relu6(self.depthwise(wide), inplace=True))
        return x_BCHW + narrow if self.residual else narrow


class EfficientNetLite0(Tower):
    """Tokens are the 1,280-channel map of the last convolution, one every 32 pixels, before any pooling; no
    classifier."""

    name = "efficientnet_lite0"
    token_width = TOKEN_WIDTH

    def __init__(self, image_size: int) -> None:
        super().__init__()
        self.image_size = image_size
        self.tokens_per_image = (-(-image_size // STRIDE)) ** 2
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
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
        self.head = SameConv2d(channels, TOKEN_WIDTH, 1)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # the stubs lack this keyword

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        assert images_BHWC.dtype == torch.uint8, (
            f"the tower normalises uint8 pictures itself, got {images_BHWC.dtype}"
        )
        # permuting BHWC memory gives channels-last without a copy
        x_BCHW = (images_BHWC.to(self.stem.weight.dtype) - PIXEL_MEAN).div_(PIXEL_SCALE).permute(0, 3, 1, 2)
        x_BCHW = self.blocks(functional.relu6(self.stem(x_BCHW), inplace=True))
        x_BCHW = functional.relu6(self.head(x_BCHW), inplace=True)
        return x_BCHW.permute(0, 2, 3, 1).flatten(1, 2).to(self.stem.weight.dtype)

    def config(self) -> dict[str, int]:
        """Arguments of ``build``."""
        return {"image_size": self.image_size}


def build(image_size: int) -> EfficientNetLite0:
    """The tower with random weights, for pictures of this side in pixels."""
    return EfficientNetLite0(image_size)
