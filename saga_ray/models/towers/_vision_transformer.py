"""What towers share that wrap a whole vision transformer of a library: X is the patches' part of its last
tokens. Class and register tokens stand before them and are dropped after they have been attended to. What
takes no part in those tokens (a pooling head, the mask token of pre-training) is left out, so that every
weight trains.

Legend: B images, H and W height and width, C channels, N patch tokens, T all tokens, D token width.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Self

from torch import Tensor, nn

from saga_ray.models.towers._squares import SquareTower


class VisionTransformerTower(SquareTower):
    """See the module. `visual` is the library's model, a patch of which is `patch` pixels wide; `leading`
    tokens stand before those of the patches, and `idle` are the parts that `visual` was robbed of."""

    layers: int
    """Of `visual`."""

    def __init__(
        self,
        visual: nn.Module,
        patch: int,
        leading: int,
        idle: Sequence[str],
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__(image_size, patch, mean, std)
        self.leading, self.idle = leading, list(idle)
        self.visual = visual
        visual.eval()

    def train(self, mode: bool = True) -> Self:
        """Keep dropout, stochastic depth and DINOv3's random positions off: a token depends on its picture
        and the weights alone."""
        super().train(mode)
        self.visual.eval()
        return self

    def forward(self, images_BHWC: Tensor) -> Tensor:
        """Tokens x_BND of uint8 RGB pictures."""
        return self.encode(self.pixels(images_BHWC))

    def pixels(self, images_BHWC: Tensor) -> Tensor:
        """Normalised as the checkpoint says: pixels_BCHW."""
        return self.normalised(images_BHWC).permute(0, 3, 1, 2)

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Tokens x_BND of pictures that are normalised already."""
        return self.all_tokens(pixels_BCHW)[:, self.leading :]

    @abstractmethod
    def all_tokens(self, pixels_BCHW: Tensor) -> Tensor:
        """The library's x_BTD, with the tokens before those of the patches."""


def leave_out(visual: nn.Module, idle: Sequence[str]) -> None:
    """Take parts away that have no effect on the patches' tokens: modules pass on what they are given, and
    parameters are none."""
    for path in idle:
        owner, _, name = path.rpartition(".")
        module = visual.get_submodule(owner)
        setattr(module, name, _Nothing() if isinstance(getattr(module, name), nn.Module) else None)


class _Nothing(nn.Module):
    """Stands where a module was left out."""

    def forward(self, read: Tensor, *_: object) -> Tensor:
        """What it is given."""
        return read
