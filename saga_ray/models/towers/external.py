"""An external tower: a vision transformer of the transformers library that no multimodal model has trained,
such as DINOv2 (arXiv 2304.07193), DINOv3 (2508.10104), SigLIP and SigLIP 2 (2303.15343, 2502.14786) or CLIP.

The seam is the library's `last_hidden_state`. At another size than the model's own its positions are
interpolated as the library does it. Models of timm are towers of their own (`saga_ray.models.towers.timm`).

`saga_ray.models.towers.conversion.external` makes one of a checkpoint.

Legend: B images, H and W height and width, C channels, N patch tokens, T all tokens, D token width, G patches
along a side, p pixels along a patch's side, V numbers of a patch.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel

from saga_ray.models.towers._squares import architecture
from saga_ray.models.towers._vision_transformer import VisionTransformerTower, leave_out

OF_OTHER_USES = {"out_features", "out_indices", "stage_names", "id2label", "label2id"}
"""Of a configuration: what detectors and classifiers are told."""


class ExternalTower(VisionTransformerTower):
    """See the module. `visual` reads pixels, or, as SigLIP 2 of the kind NaFlex does, patches."""

    name = "external"

    def __init__(
        self,
        visual: nn.Module,
        leading: int,
        idle: Sequence[str],
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        vision: Any = visual.config
        super().__init__(visual, patch_side(vision), leading, idle, image_size, mean, std)
        self._patch = patch_side(vision)
        self.token_width, self.layers = int(vision.hidden_size), int(vision.num_hidden_layers)
        read = inspect.signature(visual.forward).parameters
        self._reads_patches = "spatial_shapes" in read
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in read else {}

    def all_tokens(self, pixels_BCHW: Tensor) -> Tensor:
        """The library's x_BTD, with the tokens before those of the patches."""
        x_BTD: Tensor = self.visual(**self._given(pixels_BCHW)).last_hidden_state
        return x_BTD

    def _given(self, pixels_BCHW: Tensor) -> dict[str, Any]:
        """What the library's model is called with."""
        if not self._reads_patches:
            return {"pixel_values": pixels_BCHW, **self._options}
        split = (self.side, self._patch)
        pixels_BCGpGp = pixels_BCHW.reshape(*pixels_BCHW.shape[:2], *split, *split)
        patches_BNV = pixels_BCGpGp.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
        return {
            "pixel_values": patches_BNV,
            "pixel_attention_mask": None,  # every patch counts
            "spatial_shapes": torch.full((len(patches_BNV), 2), self.side),
        }

    def config(self) -> dict[str, Any]:
        """Arguments of ``build``."""
        vision: Any = self.visual.config
        return {
            "vision": described(vision),
            "leading": self.leading,
            "idle": self.idle,
            "image_size": self.image_size,
            **self.statistics,
        }


def described(vision: Any) -> dict[str, Any]:
    """A vision model's configuration as plain JSON, its `model_type` included, that stays right with another
    number of layers."""
    kept = {key: value for key, value in architecture(vision).items() if key not in OF_OTHER_USES}
    return {**kept, "model_type": vision.model_type}


def patch_side(vision: Any) -> int:
    """p of a configuration; its patches are square."""
    side = vision.patch_size
    if not isinstance(side, int):
        side, width = side
        assert side == width, "patches are square"
    return int(side)


def vision_model(vision: Mapping[str, Any], idle: Sequence[str]) -> nn.Module:
    """The library's model of a configuration, with random weights and without its `idle` parts."""
    given = {key: value for key, value in vision.items() if key != "model_type"}
    config = AutoConfig.for_model(vision["model_type"], **given)
    visual: nn.Module = AutoModel.from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    leave_out(visual, idle)
    return visual


def of_depth(config: Mapping[str, Any], layers: int) -> dict[str, Any]:
    """The arguments of ``build`` with another number of layers."""
    return {**config, "vision": {**config["vision"], "num_hidden_layers": layers}}


def build(
    vision: Mapping[str, Any],
    leading: int,
    idle: Sequence[str],
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> ExternalTower:
    """The tower with random weights.

    Args:
        vision: the vision model's configuration, its `model_type` included.
        leading: tokens before those of the patches.
        idle: dotted names of modules and parameters that have no effect on the patches' tokens.
        image_size: side of the pictures, in pixels.
        mean: what pixels between 0 and 1 are normalised with, a number a channel.
        std: likewise.

    Raises:
        UserError: pictures of this size are no whole number of patches.
    """
    return ExternalTower(vision_model(vision, idle), leading, idle, image_size, mean, std)
