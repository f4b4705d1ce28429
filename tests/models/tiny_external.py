"""Checkpoints of vision models with some random weights, as transformers stores them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel

PATCH, WIDTH = 14, 32
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 2 * PATCH,
    "patch_size": PATCH,
}
DROPPED = {"drop_path_rate": 0.5, "hidden_dropout_prob": 0.5}
"""Off in a tower, whatever it is told."""
KINDS: dict[str, dict[str, Any]] = {
    "dinov2": {"mlp_ratio": 2, "out_features": ["stage2"], **DROPPED},
    "dinov2_with_registers": {"mlp_ratio": 2, "use_swiglu_ffn": True},
    "dinov3_vit": {"num_register_tokens": 3, "use_gated_mlp": True, "drop_path_rate": 0.5},
    "clip": {},
    "siglip": {},
    "siglip2": {"num_patches": 4},
    "vit": {},
    "beit": {"use_relative_position_bias": True},
}
"""Type of the checkpoint to what its vision model has of its own."""
TWO_SIDED = ("clip", "siglip", "siglip2")
MEAN, DEVIATION = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


def checkpoint(folder: Path, kind: str = "dinov2", **processor: Any) -> Any:
    """Write a checkpoint of a kind, its text side with it where it has one; returns the vision model."""
    vision = {**COMMON, **KINDS[kind]}
    if kind in TWO_SIDED:
        text = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = AutoConfig.for_model(kind, vision_config=vision, text_config={"vocab_size": 20, **text})
    else:
        config = AutoConfig.for_model(kind, **vision)
    torch.manual_seed(4)
    whole = AutoModel.from_config(config).eval()
    with torch.no_grad():  # random biases, norms and tokens too
        for parameter in whole.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    whole.save_pretrained(folder)
    stored = {"image_mean": MEAN, "image_std": DEVIATION, "size": {"height": 42, "width": 42}, **processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(stored))
    return whole.vision_model if kind in TWO_SIDED else whole


def pictures(count: int, size: int, seed: int = 0) -> Tensor:
    """Random uint8 pictures images_BHWC."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)
