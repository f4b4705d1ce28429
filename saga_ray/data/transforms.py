"""Augmentation: a random crop and a mirror image, seeded by (seed, epoch, row) and so the same on every
machine.

The tower normalises; pictures stay uint8 here.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

from saga_ray.config.settings import DataSettings
from saga_ray.data.decoding import Pixels, centre_square
from saga_ray.data.seeds import generator

RATIO = (3 / 4, 4 / 3)
"""Smallest and largest width / height of a crop."""
TRIES = 10


def augmentation_rng(seed: int, epoch: int, row: int) -> np.random.Generator:
    """The stream that decides how one picture looks in one epoch."""
    return generator(seed, "augment", epoch, row)


def augment(image_HWC: Pixels, rng: np.random.Generator, settings: DataSettings) -> Pixels:
    """A random part of a picture of any size, resized to `settings.image_size` square, mirrored half of the
    time.

    The part keeps `crop_scale` to 1 of the area, at a ratio of 3:4 to 4:3 (log-uniform); where no such part
    fits, and with `crop_scale` 1, it is the centred square.
    """
    image = Image.fromarray(image_HWC)
    size = settings.image_size
    box = _crop_box(image.width, image.height, settings.crop_scale, rng)
    if box is None:
        crop_HWC = centre_square(image, size)
    else:
        crop_HWC = np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    if settings.flip and rng.random() < 0.5:
        crop_HWC = crop_HWC[:, ::-1]
    return np.ascontiguousarray(crop_HWC)


def _crop_box(
    width: int, height: int, least: float, rng: np.random.Generator
) -> tuple[int, int, int, int] | None:
    if least == 1.0:
        return None
    for _ in range(TRIES):
        area = width * height * rng.uniform(least, 1.0)
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            return left, top, left + w, top + h
    return None
