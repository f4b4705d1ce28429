"""What towers share that end behind the projector of a multimodal model: a vision model of the transformers
library reads plain normalised pixels, and X is what the language model gets.

Legend: B images, H and W height and width, C channels, N tokens, D token width.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from saga_ray.models.towers._squares import SquareTower, architecture


class ProjectedTower(SquareTower):
    """See the module. A subclass names `visual` and `projector`, and encodes."""

    merge: int
    """Patches along a token's side."""
    visual: Any
    projector: Any

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        return self.encode(self.pixels(images_BHWC))

    def pixels(self, images_BHWC: Tensor) -> Tensor:
        """The processor's pixel_values of one tile: pixels_BCHW."""
        return self.normalised(images_BHWC).permute(0, 3, 1, 2)

    @abstractmethod
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Tokens x_BND of pictures that are normalised already."""

    def config(self) -> dict[str, Any]:
        """Arguments of ``build``."""
        return {
            "vision": architecture(self.visual.config),
            "width": self.token_width,
            "merge": self.merge,
            "image_size": self.image_size,
            **self.statistics,
        }
