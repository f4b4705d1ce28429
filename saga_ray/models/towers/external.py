"""An external tower: a vision transformer of the transformers library that no multimodal model has trained,
such as DINOv2 (arXiv 2304.07193), DINOv3 (2508.10104), SigLIP and SigLIP 2 (2303.15343, 2502.14786) or CLIP.

The seam is the library's `last_hidden_state`, of which the patches' tokens are X; class and register tokens
stand before them and are dropped after they have been attended to. At another size than the model's own its
positions are interpolated as the library does it. What takes no part in those tokens (a pooling head, the
mask token of pre-training) is left out, so that every weight trains.

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

from saga_ray.models.towers._squares import SquareTower, architecture

OF_OTHER_USES = {"out_features", "out_indices", "stage_names", "id2label", "label2id"}
"""Of a configuration: what detectors and classifiers are told."""


class ExternalTower(SquareTower):
    """See the module. `visual` reads pixels, or, as SigLIP 2 of the kind NaFlex does, patches; `leading`
    tokens stand before those of the patches, and `idle` are the parts that `visual` was robbed of."""

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
        super().__init__(image_size, patch_side(vision), mean, std)
        self.token_width = int(vision.hidden_size)
        self.leading, self.idle = leading, list(idle)
        self._patch = patch_side(vision)
        read = inspect.signature(visual.forward).parameters
        self._reads_patches = "spatial_shapes" in read
        self._options = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in read else {}
        self.visual = visual
        visual.eval()

    def train(self, mode: bool = True) -> ExternalTower:
        """Keep dropout, stochastic depth and DINOv3's random positions off: a token depends on its picture
        and the weights alone."""
        super().train(mode)
        self.visual.eval()
        return self

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        return self.encode(self.pixels(images_BHWC))

    def pixels(self, images_BHWC: Tensor) -> Tensor:
        """Normalised as the checkpoint's own processor does it: pixels_BCHW."""
        return self.normalised(images_BHWC).permute(0, 3, 1, 2)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Tokens x_BND of pictures that are normalised already."""
        return self.all_tokens(pixels_BCHW)[:, self.leading :]

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


def leave_out(visual: nn.Module, idle: Sequence[str]) -> None:
    """Take parts away that have no effect on the patches' tokens: modules pass on what they are given, and
    parameters are none."""
    for path in idle:
        owner, _, name = path.rpartition(".")
        module = visual.get_submodule(owner)
        setattr(module, name, _Nothing() if isinstance(getattr(module, name), nn.Module) else None)


class _Nothing(nn.Module):
    """Stands where a module was left out."""

    def forward(self, read: Tensor, *_: Any) -> Tensor:
        """What it is given."""
        return read


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
