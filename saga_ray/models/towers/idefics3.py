"""The vision tower of Idefics3 and SmolVLM (arXiv 2408.12637 and 2504.05299; Idefics3VisionTransformer of
transformers, of which SmolVLM's is a copy): SigLIP, and a connector that makes one token of several patches.

The seam is behind the connector (pixel shuffle and one linear map): what the language model gets, as with
InternVL (`saga_ray.models.towers.internvl`, where the reasons are).

A picture is one tile, and all are of one size; the model's own processor may cut large ones into several and
send a small copy of the whole behind them. A token covers 28 pixels in Idefics3-8B, 42 in SmolVLM-2.2B and 64
in the smaller SmolVLMs, so 224 pixels are 8 x 8 tokens of the first and no whole number of the others, which
read 210 or 252, and 192 or 256. Positions are the library's: at another size than its own the vision model
takes each patch's from the place in its table that lies at the same share of the side, without interpolating.
SmolVLM-2.2B's own 384 pixels are 27 patches and a rest of 6 pixels that it never reads: 378 here.

Legend: B images, H and W height and width, C channels, N tokens, D token width, R patches, V width of the
vision model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Idefics3Config, Idefics3VisionConfig, Idefics3VisionTransformer
from transformers.models.idefics3.modeling_idefics3 import Idefics3Connector

from saga_ray.models.towers._projected import ProjectedTower

CONSTANT: dict[str, Any] = {"model_type": Idefics3VisionConfig.model_type, "attention_dropout": 0.0}
"""Of every tower: SmolVLM's vision model is of the same architecture, and nothing is random."""


class Idefics3Tower(ProjectedTower):
    """See the module."""

    name = "idefics3"

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
        self.token_width = int(self.projector.modality_projection.proj.out_features)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """See `ProjectedTower`."""
        patches_BRV = self.visual(pixel_values=pixels_BCHW).last_hidden_state
        x_BND: Tensor = self.projector(patches_BRV)
        return x_BND


def build(
    vision: dict[str, Any],
    width: int,
    merge: int,
    image_size: int,
    mean: Sequence[float],
    std: Sequence[float],
) -> Idefics3Tower:
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
    config = Idefics3VisionConfig.from_dict(vision | CONSTANT)
    visual: nn.Module = Idefics3VisionTransformer._from_config(config, dtype=torch.float32)  # type: ignore[no-untyped-call]
    whole = Idefics3Config(
        vision_config=vision | CONSTANT,
        text_config={"hidden_size": width, "num_attention_heads": 1},
        scale_factor=merge,
        pad_token_id=None,
    )
    connector: nn.Module = Idefics3Connector(whole)  # type: ignore[no-untyped-call]
    return Idefics3Tower(visual, connector, merge, image_size, mean, std)
