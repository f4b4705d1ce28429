"""What the vision towers of Qwen2.5-VL and Qwen3-VL share: how a picture becomes the vision model's patches.

Equal to the models' image processor for a square picture of the tower's own size, which it neither enlarges
nor shrinks: the released processors do that below a least number of pixels (65,536 in Qwen3-VL), so that 224
pixels would become 256.

Legend: B images, H and W height and width, C channels, R patches of an image, V numbers of a patch, N tokens,
D token width, G tokens along a side, m patches along a token's side, p pixels along a patch's side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from saga_ray.models.towers._squares import SquareTower, architecture


class QwenVLTower(SquareTower):
    """A vision model of the transformers library that takes packed patches and a grid an image."""

    def __init__(
        self, visual: nn.Module, image_size: int, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        vision: Any = visual.config
        super().__init__(image_size, vision.spatial_merge_size * vision.patch_size, mean, std)
        self.visual = visual
        self.merge, self._patch = vision.spatial_merge_size, vision.patch_size
        self._frames = vision.temporal_patch_size
        self.token_width = vision.out_hidden_size

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        return self.tokens(self.patches(images_BHWC))

    def patches(self, images_BHWC: Tensor) -> Tensor:
        """The processor's pixel_values v_BRV: normalised, cut into patches, the patches of a token together,
        each patch as many times as the model's patches have frames."""
        pixels_BHWC = self.normalised(images_BHWC)
        split = (self.side, self.merge, self._patch)
        pixels_BGmpGmpC = pixels_BHWC.reshape(len(images_BHWC), *split, *split, -1)
        patches_BGGmmCpp = pixels_BGmpGmpC.permute(0, 1, 4, 2, 5, 7, 3, 6)
        frames = [-1] * 6 + [self._frames, -1, -1]
        return patches_BGGmmCpp.unsqueeze(6).expand(frames).flatten(1, 4).flatten(2)

    def tokens(self, patches_BRV: Tensor) -> Tensor:
        """x_BND of pixel_values."""
        grid = self.side * self.merge
        grid_B3 = torch.tensor([[1, grid, grid]], device=patches_BRV.device).expand(len(patches_BRV), -1)
        x_BND = self.read(patches_BRV.flatten(0, 1), grid_B3)
        return x_BND.reshape(len(patches_BRV), self.tokens_per_image, self.token_width)

    def read(self, patches_RV: Tensor, grid_B3: Tensor) -> Tensor:
        """The tokens of all images, one after the other."""
        tokens: Tensor = self.visual(patches_RV, grid_thw=grid_B3).pooler_output
        return tokens

    def config(self) -> dict[str, Any]:
        """Arguments of ``build``."""
        vision: Any = self.visual.config
        return {"vision": architecture(vision), "image_size": self.image_size, **self.statistics}
