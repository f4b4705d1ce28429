"""An external tower of timm: one of its vision transformers (ViT, DeiT, BEiT, EVA, and those of DINOv2,
DINOv3, SigLIP, CLIP and others), which come with the extra ``[gpu]``.

The seam is timm's `forward_features`. At another size than the checkpoint's own the model is built for that
size, and timm brings the positions to it as it reads the weights.

`saga_ray.models.towers.conversion.timm` makes one of a checkpoint.

Legend: B images, H and W height and width, C channels, T all tokens, D token width.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from saga_ray.errors import UserError
from saga_ray.models.towers._vision_transformer import VisionTransformerTower, leave_out

TOWERS_OWN = {"num_classes", "img_size"}
"""Of timm's arguments: what a tower sets itself."""


class TimmTower(VisionTransformerTower):
    """See the module. `visual` is what timm builds of the architecture's name and arguments."""

    name = "timm"

    def __init__(
        self,
        visual: nn.Module,
        architecture: str,
        model_args: Mapping[str, Any],
        leading: int,
        idle: Sequence[str],
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(visual, patch_side(visual), leading, idle, image_size, mean, std)
        self._built_of = {"architecture": architecture, "model_args": dict(model_args)}
        model: Any = visual
        self.token_width, self.layers = int(model.num_features), len(model.blocks)

    def all_tokens(self, pixels_BCHW: Tensor) -> Tensor:
        """The library's x_BTD, with the tokens before those of the patches."""
        model: Any = self.visual
        x_BTD: Tensor = model.forward_features(pixels_BCHW)
        return x_BTD

    def config(self) -> dict[str, Any]:
        """Arguments of ``build``."""
        return {
            **self._built_of,
            "leading": self.leading,
            "idle": self.idle,
            "image_size": self.image_size,
            **self.statistics,
        }


def library() -> Any:
    """timm itself. Raises UserError where it cannot be imported."""
    try:
        return importlib.import_module("timm")
    except Exception as error:  # torchvision, where it is of another build than torch, fails in its own ways
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(
            f"A tower of timm needs timm and torchvision, which cannot be imported ({reason}): install the "
            "extra [gpu]."
        ) from error


def patch_side(visual: Any) -> int:
    """The side of a model's patches, which are square, in pixels."""
    side, width = visual.patch_embed.patch_size
    assert side == width, "patches are square"
    return int(side)


def vision_model(
    architecture: str, model_args: Mapping[str, Any], image_size: int, idle: Sequence[str] = ()
) -> nn.Module:
    """The library's model of pictures of a size, with random weights and without its `idle` parts."""
    given = {**model_args, "num_classes": 0, "img_size": image_size}
    visual: nn.Module = library().create_model(architecture, **given)
    leave_out(visual, idle)
    module: Any
    for module in visual.modules():
        if hasattr(module, "qkv_bias_separate"):
            module.qkv_bias_separate = True  # else attention reads the map's weight past adapters beside it
    return visual


def of_depth(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The arguments of ``build`` with another number of layers."""
    return {**config, "model_args": {**config["model_args"], "depth": layers}}


def build(
    architecture: str,
    model_args: Mapping[str, Any],
    leading: int,
    idle: Sequence[str],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> TimmTower:
    """The tower with random weights.

    Args:
        architecture: timm's name of the model.
        model_args: timm's arguments of the model beside its name, without classes and size of pictures.
        leading: tokens before those of the patches.
        idle: dotted names of modules and parameters that have no effect on the patches' tokens.
        image_size: side of the pictures, in pixels.
        mean: what pixels between 0 and 1 are normalised with, a number a channel.
        std: likewise.

    Raises:
        UserError: pictures of this size are no whole number of patches, or timm cannot be imported.
    """
    visual = vision_model(architecture, model_args, image_size, idle)
    return TimmTower(visual, architecture, model_args, leading, idle, image_size, mean, std)
