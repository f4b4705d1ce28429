"""Losses are computed in single precision at least, whatever the encoder and the supervisor run in."""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(x: Tensor) -> Tensor:
    """`x` in float32, or in float64 where it is that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
