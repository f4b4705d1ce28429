"""Checkpoints of timm's vision transformers with some random weights, as timm stores them for the hub."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.tiny_external import DEVIATION, MEAN

WIDTH = 32
SMALL: dict[str, Any] = {"embed_dim": WIDTH, "depth": 2, "num_heads": 4}
DROPPED = {"drop_path_rate": 0.5, "proj_drop_rate": 0.5}
"""Off in a tower, whatever it is told."""
KINDS: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": DROPPED,
    "deit_tiny_distilled_patch16_224": {},
    "vit_small_patch14_reg4_dinov2": {"drop_path_rate": 0.5},
    "vit_small_patch16_dinov3": {"drop_path_rate": 0.5, "rope_rescale_coords": 2.0},
    "vit_base_patch16_siglip_224": {},
    "vit_base_patch16_clip_224": {"dynamic_img_size": True},
    "eva02_tiny_patch14_224": DROPPED,
    "beit_base_patch16_224": {},
}
"""Architecture to what it is told beside its size: a class token; two; registers; rotary positions, random in
training; none of these, a pooling head; a norm before the layers; biases beside the joint map of attention;
relative positions."""


def needed() -> Any:
    """timm. A CPU's torch has no torchvision of its own build, without which timm cannot be imported: there,
    and nowhere else, the test is skipped; `make test-timm` runs it."""
    try:
        return importlib.import_module("timm")
    except Exception:  # torchvision of another build than torch fails in its own ways
        if torch.version.cuda is not None:
            raise
        pytest.skip("timm needs the torchvision of [gpu]: make test-timm")


def patch(kind: str) -> int:
    """Pixels along a patch's side."""
    return 14 if "patch14" in kind else 16


def checkpoint(folder: Path, kind: str, **config: Any) -> Any:
    """Write a checkpoint of a kind for pictures of 2 x 2 patches, with a head for five classes; returns
    timm's model. `config`: changed in config.json."""
    timm, side = needed(), 2 * patch(kind)
    arguments = {**SMALL, **KINDS.get(kind, {}), "num_classes": 5, "img_size": side}
    torch.manual_seed(4)
    model = timm.create_model(kind, **arguments).eval()
    with torch.no_grad():  # random biases, norms and tokens too
        for parameter in model.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    hub = importlib.import_module("timm.models")
    hub.save_for_hf(model, folder, model_args=arguments, safe_serialization=True)
    stored = json.loads((folder / "config.json").read_text())
    pictures = {"input_size": [3, side, side], "mean": MEAN, "std": DEVIATION}
    stored["pretrained_cfg"].update(pictures)
    (folder / "config.json").write_text(json.dumps({**stored, **config}))
    return model
