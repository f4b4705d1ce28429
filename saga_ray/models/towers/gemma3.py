"""The vision tower of Gemma 3 (arXiv 2503.19786; SiglipVisionModel and Gemma3MultiModalProjector of
transformers): SigLIP, and a projector that makes one token of 4 x 4 patches.

The seam is behind the projector (mean of the patches, norm, one linear map): what the language model gets, as
with InternVL (`saga_ray.models.towers.internvl`, where the reasons are).

A picture is one tile, and all are of one size; the model's own processor may cut parts out of long ones (pan
and scan). Gemma 3 was trained at 896 pixels, 16 x 16 tokens of 56 pixels each. At another size a token stays
the mean of as many patches and the table of positions is interpolated, as the library's SigLIP does it: 224
pixels are 4 x 4 tokens. (The library's projector takes one size alone.)

Legend: B images, H and W height and width, C channels, N tokens, D token width, R patches, V width of the
vision model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Gemma3Config, SiglipVisionConfig, SiglipVisionModel
from transformers.models.gemma3.modeling_gemma3 import Gemma3MultiModalProjector

from saga_ray.models.towers._projected import ProjectedTower

CONSTANT: dict[str, Any] = {"vision_use_head": False, "attention_dropout": 0.0}
"""Of every tower: there is no weight that takes no part, and nothing is random."""


class Gemma3Tower(ProjectedTower):
    """See the module."""

    name = "gemma3"

    def __init__(
        self,
        visual: nn.Module,
        projector: nn.Module,
        merge: int,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        vision: Any = visual.config
        super().__init__(image_size, merge * vision.patch_size, mean, std)
        self.visual, self.projector, self.merge = visual, projector, merge
        self.token_width = int(self.projector.mm_input_projection_weight.shape[1])

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """See `ProjectedTower`."""
        seen = self.visual(pixel_values=pixels_BCHW, interpolate_pos_encoding=True)
        patches_BRV: Tensor = seen.last_hidden_state
        x_BND: Tensor = self.projector(patches_BRV)
        return x_BND


def build(
    vision: dict[str, Any],
    width: int,
    merge: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Gemma3Tower:
    """The tower with random weights.

    Args:
        vision: the vision model's configuration.
        width: D, the language model's.
        merge: patches along a token's side.
        image_size: side of the pictures, in pixels.
        mean: what pixels between 0 and 1 are normalised with, a number a channel.
        std: likewise.

    Raises:
        UserError: pictures of this size are no whole number of tokens.
    """
    config: Any = SiglipVisionConfig.from_dict(vision | CONSTANT)
    visual: nn.Module = SiglipVisionModel._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    whole = Gemma3Config(
        vision_config=vision | {"image_size": image_size},  # by which it knows how many patches there are
        text_config={"hidden_size": width, "num_attention_heads": 1},
        mm_tokens_per_image=(image_size // config.patch_size // merge) ** 2,
    )
    projector = Gemma3MultiModalProjector(whole)
    nn.init.normal_(projector.mm_input_projection_weight, std=config.hidden_size**-0.5)
    return Gemma3Tower(visual, projector, merge, image_size, mean, std)
