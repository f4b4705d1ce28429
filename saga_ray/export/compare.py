"""Does an export embed as its encoder does?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder

BATCHES = (1, 2, 5)
"""Pictures at a time: an export whose batch is fixed fails."""
TOLERANCE = 1e-4
"""Largest difference of an embedding's components; rounding alone stays far below."""


@dataclass(frozen=True)
class Compared:
    """What the comparison came to."""

    largest_difference: float
    pictures: int


def pictures(image_size: int) -> list[NDArray[np.uint8]]:
    """Batches of pictures, BHWC: noise from fine to coarse, and one plain colour."""
    rng = np.random.default_rng(0)
    batches = []
    for batch in BATCHES:
        images_BHWC = rng.integers(0, 256, (batch, image_size, image_size, 3), dtype=np.uint8)
        coarse = -(-image_size // 8)
        tiles_BHWC = (
            rng.integers(0, 256, (batch, coarse, coarse, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
        )
        images_BHWC[1::2] = tiles_BHWC[1::2, :image_size, :image_size]
        images_BHWC[4::5] = rng.integers(0, 256, 3, dtype=np.uint8)
        batches.append(images_BHWC)
    return batches


def compare(
    encoder: Encoder, embed: Callable[[NDArray[np.uint8]], NDArray[np.float32]], what: str
) -> Compared:
    """Embed the same pictures by both. Raises UserError where they differ."""
    largest = 0.0
    for images_BHWC in pictures(encoder.tower.image_size):
        with torch.inference_mode():
            expected_BE = encoder(torch.tensor(images_BHWC)).float().numpy()
        z_BE = embed(images_BHWC)
        if z_BE.shape != expected_BE.shape:
            raise UserError(
                f"{what} makes embeddings of shape {z_BE.shape}, not {expected_BE.shape}; not kept"
            )
        largest = float(np.maximum(largest, np.abs(z_BE - expected_BE).max()))  # stays NaN
    if not largest <= TOLERANCE:  # so that NaN is refused
        raise UserError(
            f"{what} embeds otherwise than the encoder: components differ by {largest:.2g}, "
            f"more than {TOLERANCE:g}; it was not kept"
        )
    return Compared(largest, sum(BATCHES))
