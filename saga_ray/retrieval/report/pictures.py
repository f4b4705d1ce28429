"""Pictures for the page: JPEG inside the page itself, and attention laid over a picture."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from saga_ray.retrieval.report.data import Pixels

LARGEST = 160  # pixels: a page holds hundreds of pictures
QUALITY = 85
# From no attention to the most: dark violet, red, yellow. Brightness alone tells it too.
HEAT = np.array(
    [[13, 8, 60], [110, 20, 110], [205, 60, 70], [250, 150, 40], [252, 240, 150]], dtype=np.float32
)
VEIL = 0.55  # how much of an overlaid picture is heat


def data_uri(picture: Pixels) -> Markup:
    """The picture as a JPEG within a `data:` address."""
    image = Image.fromarray(picture, "RGB")
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=QUALITY, optimize=True)
    return Markup("data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode())


def overlay(picture: Pixels, beta_N: NDArray[np.floating[Any]], most: float) -> Pixels:
    """The picture under its attention: `most` times the uniform attention 1/N (or more) is brightest.

    The N patches are a square grid, row by row; between their centres attention is interpolated.
    """
    side = math.isqrt(len(beta_N))
    assert side * side == len(beta_N), f"{len(beta_N)} patches are no square"
    height, width = picture.shape[:2]
    strength = (np.asarray(beta_N, dtype=np.float32) * len(beta_N) / most).reshape(side, side)
    smooth = Image.fromarray(strength, "F").resize((width, height), Image.Resampling.BILINEAR)
    heat = colour_of(np.asarray(smooth))
    grey = picture.mean(axis=2, keepdims=True).repeat(3, axis=2)
    mixed: Pixels = (VEIL * heat + (1 - VEIL) * grey).round().astype(np.uint8)
    return mixed


def colour_of(strength: NDArray[np.float32]) -> NDArray[np.float32]:
    """Colours (.., 3) in 0 to 255 for strengths in 0 to 1."""
    place = np.clip(strength, 0, 1) * (len(HEAT) - 1)
    below = np.minimum(place.astype(int), len(HEAT) - 2)
    part = (place - below)[..., None]
    colour: NDArray[np.float32] = HEAT[below] * (1 - part) + HEAT[below + 1] * part
    return colour
