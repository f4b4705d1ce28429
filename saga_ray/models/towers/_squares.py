"""What towers share that wrap a vision model of the transformers library: square pictures of one size, cut
into whole tokens, which the tower normalises itself.

Legend: B images, H and W height and width, C channels, G tokens along a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from saga_ray.errors import UserError
from saga_ray.models.towers.base import Tower

NOT_OF_THE_ARCHITECTURE = {"transformers_version", "dtype", "architectures", "_name_or_path"}


class SquareTower(Tower):
    """See the module. Raises UserError where pictures of `image_size` pixels are no whole number of tokens,
    each of which covers `covered` pixels along its side."""

    def __init__(self, image_size: int, covered: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if image_size < covered or image_size % covered:
            raise UserError(
                f"image_size={image_size}, but a token of {self.name} covers {covered} x {covered} pixels: "
                f"set a multiple of it, for example {max(1, round(image_size / covered)) * covered}"
            )
        self.image_size = image_size
        self.side = image_size // covered
        """G."""
        self.tokens_per_image = self.side**2
        self._mean_C: Tensor
        self._std_C: Tensor
        self.register_buffer("_mean_C", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("_std_C", torch.tensor(std, dtype=torch.float32), persistent=False)
        self.statistics = {"mean": [float(each) for each in mean], "std": [float(each) for each in std]}
        """Arguments of the tower's ``build``."""

    def normalised(self, images_BHWC: Tensor) -> Tensor:
        """pixels_BHWC of uint8 RGB pictures."""
        assert images_BHWC.dtype == torch.uint8, (
            f"the tower normalises uint8 pictures itself, got {images_BHWC.dtype}"
        )
        assert images_BHWC.shape[1:3] == (self.image_size, self.image_size), (
            f"the tower reads pictures of {self.image_size} pixels, got {tuple(images_BHWC.shape[1:3])}"
        )
        pixels_BHWC: Tensor = (images_BHWC.to(self._mean_C.dtype) / 255 - self._mean_C) / self._std_C
        return pixels_BHWC


def architecture(vision: PreTrainedConfig) -> dict[str, Any]:
    """A vision model's configuration as plain JSON: what makes it another model, nothing else."""
    return {key: value for key, value in vision.to_diff_dict().items() if key not in NOT_OF_THE_ARCHITECTURE}
