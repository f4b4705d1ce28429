"""A vision tower: pictures in, patch tokens out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn


class Tower(nn.Module, ABC):
    """The part of the encoder that makes an image's patch tokens X (paper section 3.1, f_theta).

    A subclass normalises pictures itself and holds nothing that behaves differently in training and
    evaluation (no batch statistics, no stochastic depth): a token depends on its own picture and the
    weights alone.

    Legend: B images, H and W height and width, N patch tokens, D token width.
    """

    name: str
    """What ``towers.build`` finds it by."""
    image_size: int
    """Side of the square pictures that it reads, in pixels."""
    tokens_per_image: int
    """N."""
    token_width: int
    """D."""

    @property
    def pooled_width(self) -> int:
        """So many numbers of a token, its first, are what the pooler reads; all, unless others are for the
        language model alone."""
        return self.token_width

    @abstractmethod
    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures, row by row from the top left."""

    @abstractmethod
    def config(self) -> Mapping[str, Any]:
        """The keyword arguments that build this tower again, apart from its weights; plain JSON."""
