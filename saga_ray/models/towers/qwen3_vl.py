"""The vision tower of Qwen3-VL (arXiv 2511.21631): patches of 16 pixels, and mergers that make one token of
2 x 2 patches.

Beside the last layer's merger, some layers have one of their own: their features (DeepStack, arXiv
2406.04334) are added to the hidden states of the language model's first layers where the image stands. They
are part of what the language model reads of an image, so they are part of X: a token is the last merger's
output and then each layer's features, as vLLM's `image_embeds` wants it, and D is (1 + such layers) times the
language model's width. 224 pixels are 7 x 7 tokens. The pooler reads the last merger's output alone.

Legend: see `_qwen_vl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig
from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLVisionModel

from saga_ray.models.towers._qwen_vl import QwenVLTower


class Qwen3VLTower(QwenVLTower):
    """See the module."""

    name = "qwen3_vl"

    def __init__(
        self, visual: nn.Module, image_size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__(visual, image_size, mean, std)
        vision: Any = visual.config
        self.token_width = vision.out_hidden_size * (1 + len(vision.deepstack_visual_indexes))

    @property
    def pooled_width(self) -> int:
        """The last merger's output, of the language model's width: the paper's D (section 3.1)."""
        vision: Any = self.visual.config
        return int(vision.out_hidden_size)

    def read(self, patches_RV: Tensor, grid_B3: Tensor) -> Tensor:
        """The tokens of all images, one after the other, with their DeepStack features."""
        output = self.visual(patches_RV, grid_thw=grid_B3)
        return torch.cat([output.pooler_output, *output.deepstack_features], dim=-1)


def build(vision: dict[str, Any], image_size: int, mean: list[float], std: list[float]) -> Qwen3VLTower:
    """The tower with random weights: the vision model's configuration, the side of its pictures in pixels,
    and what pixels between 0 and 1 are normalised with.

    Raises:
        UserError: pictures of this size are no whole number of tokens.
    """
    config = Qwen3VLVisionConfig.from_dict(vision)
    visual: nn.Module = Qwen3VLVisionModel._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return Qwen3VLTower(visual, image_size, mean, std)
