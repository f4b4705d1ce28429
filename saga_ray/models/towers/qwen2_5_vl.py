"""The vision tower of Qwen2.5-VL (arXiv 2502.13923): patches of 14 pixels, attention in windows but for a few
layers, and a merger that makes one token of 2 x 2 patches.

The seam is behind the merger: what the language model gets. 224 pixels are 8 x 8 tokens.

Legend: see `_qwen_vl`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

from saga_ray.models.towers._qwen_vl import QwenVLTower


class Qwen25VLTower(QwenVLTower):
    """See the module."""

    name = "qwen2_5_vl"


def build(vision: dict[str, Any], image_size: int, mean: list[float], std: list[float]) -> Qwen25VLTower:
    """The tower with random weights: the vision model's configuration, the side of its pictures in pixels,
    and what pixels between 0 and 1 are normalised with.

    Raises:
        UserError: pictures of this size are no whole number of tokens.
    """
    config = Qwen2_5_VLVisionConfig.from_dict(vision)
    visual: nn.Module = Qwen2_5_VisionTransformerPretrainedModel._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    return Qwen25VLTower(visual, image_size, mean, std)
