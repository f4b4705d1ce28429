"""The vision tower of InternVL3 and InternVL3.5 (arXiv 2504.10479 and 2508.18265; InternVLVisionModel of
transformers): InternViT, patches of 14 pixels, and a projector that makes one token of 2 x 2 patches.

The seam is behind the projector (pixel shuffle, norm, two linear maps): what the language model gets. It does
what the mergers of Qwen-VL do, which are part of those models' towers too, and so X feeds pooler and language
model with no adapter between (the paper, section 3.1); before the shuffle there would be four tokens for each
that the language model attends to, and its attention could teach the pooler nothing.

A picture is one tile, and all are of one size; the model's own processor may cut large ones into several.
InternViT was trained at 448 pixels, 16 x 16 tokens; at another size its table of positions is interpolated,
as the library does it: 224 pixels are 8 x 8 tokens.

Legend: B images, H and W height and width, C channels, N tokens, D token width, T patches with the class
token, V width of the vision model, G tokens along a side, m patches along a token's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import InternVLConfig, InternVLVisionConfig, InternVLVisionModel
from transformers.models.internvl.modeling_internvl import InternVLMultiModalProjector

from saga_ray.models.towers._projected import ProjectedTower

CONSTANT: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_dropout": 0.0,
    "projection_dropout": 0.0,
    "use_mask_token": False,
}
"""Of every tower: nothing is random, and there is no weight that takes no part."""


class InternVLTower(ProjectedTower):
    """See the module."""

    name = "internvl"

    def __init__(
        self,
        visual: nn.Module,
        projector: nn.Module,
        merge: int,
        activation: str,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        vision: Any = visual.config
        super().__init__(image_size, merge * vision.patch_size[0], mean, std)
        self.visual, self.projector = visual, projector
        self.merge, self.activation = merge, activation
        self.token_width = int(self.projector.linear_2.out_features)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """See `ProjectedTower`."""
        patches_BTV = self.visual(pixel_values=pixels_BCHW).last_hidden_state[:, 1:]
        split = (self.side, self.merge)
        patches_BGmGmV = patches_BTV.reshape(len(patches_BTV), *split, *split, -1)
        # pixel shuffle: the patches of a token stand one behind the other, row by row
        shuffled_BGGmmV = patches_BGmGmV.permute(0, 1, 3, 2, 4, 5)
        x_BND: Tensor = self.projector(shuffled_BGGmmV.flatten(3).flatten(1, 2))
        return x_BND

    def config(self) -> dict[str, Any]:
        """Arguments of ``build``."""
        return super().config() | {"activation": self.activation}


def build(
    vision: dict[str, Any],
    width: int,
    merge: int,
    activation: str,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> InternVLTower:
    """The tower with random weights.

    Args:
        vision: the vision model's configuration.
        width: D, the language model's.
        merge: patches along a token's side.
        activation: between the projector's linear maps.
        image_size: side of the pictures, in pixels.
        mean: what pixels between 0 and 1 are normalised with, a number a channel.
        std: likewise.

    Raises:
        UserError: pictures of this size are no whole number of tokens.
    """
    config = InternVLVisionConfig.from_dict(vision | CONSTANT)
    visual: nn.Module = InternVLVisionModel._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    whole = InternVLConfig(
        vision_config=vision,  # not the same object: a whole model's would be given its attention, none here
        text_config={"hidden_size": width},
        downsample_ratio=1 / merge,
        projector_hidden_act=activation,
    )
    projector = InternVLMultiModalProjector(whole)
    return InternVLTower(visual, projector, merge, activation, image_size, mean, std)
