"""What every metric loss shares: the call (embeddings, labels) -> mean loss, in full precision."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from saga_ray.errors import UserError
from saga_ray.losses.precision import full_precision


class MetricLoss(nn.Module):
    """A loss over a batch of embeddings and their class labels; its parameters, if any, are its proxies.

    The value depends on nothing but the embeddings, the labels and the proxies, so it may be computed on
    embeddings gathered from several workers: every worker then sees the same value.

    Distances between near neighbours and sums of exponentials lose their digits in half precision. So the
    loss is computed in the proxies' precision (float32 unless the module was cast), and outside autocast,
    whatever precision the encoder runs in.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, z_BE: Tensor, label_B: Tensor) -> Tensor:
        """Mean loss (a scalar) of L2-normalised z_BE with labels 0..classes-1 (B batch, E embedding)."""
        assert z_BE.ndim == 2 and label_B.shape == z_BE.shape[:1], (z_BE.shape, label_B.shape)
        assert not label_B.is_floating_point(), label_B.dtype
        z_BE = full_precision(z_BE)
        for proxies in self.parameters():
            z_BE = z_BE.to(proxies.dtype)
        with torch.autocast(z_BE.device.type, enabled=False):
            return self.mean_loss(z_BE, label_B)

    def mean_loss(self, z_BE: Tensor, label_B: Tensor) -> Tensor:
        """The loss itself; `forward` has settled shapes and precision."""
        raise NotImplementedError


def positive(settings: Mapping[str, float | int], option: str) -> float:
    """The option's value, which has to be above 0."""
    value = float(settings[option])
    if not value > 0:
        raise UserError(f"metric loss option {option!r} is {value:g}; give a number above 0")
    return value


def count(settings: Mapping[str, float | int], option: str) -> int:
    """The option's value, which has to be a whole number, 1 or more."""
    value = settings[option]
    if value < 1 or value != int(value):
        raise UserError(f"metric loss option {option!r} is {value:g}; give a whole number, 1 or more")
    return int(value)
