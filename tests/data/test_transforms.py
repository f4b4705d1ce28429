"""Augmentation: the same everywhere, within its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from saga_ray.config.settings import DataSettings
from saga_ray.data.decoding import centre_square
from saga_ray.data.transforms import augment, augmentation_rng


def coordinates(width: int, height: int) -> Any:
    """Red grows from left to right, green from top to bottom: what was cut out can be read off."""
    x, y = np.meshgrid(np.linspace(0, 250, width), np.linspace(0, 250, height))
    return np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)


def test_the_key_alone_decides() -> None:
    settings = DataSettings(image_size=32)
    image = coordinates(90, 60)
    first = augment(image, augmentation_rng(1, 2, 3), settings)
    assert first.shape == (32, 32, 3) and first.dtype == np.uint8 and first.flags.c_contiguous
    assert (first == augment(image, augmentation_rng(1, 2, 3), settings)).all()
    for key in ((2, 2, 3), (1, 3, 3), (1, 2, 4)):
        assert (first != augment(image, augmentation_rng(*key), settings)).any()


@pytest.mark.parametrize(("width", "height"), [(128, 128), (160, 120), (100, 130)])
def test_crops_keep_their_share_of_the_area_and_their_ratio(width: int, height: int) -> None:
    settings = DataSettings(image_size=64, crop_scale=0.3, flip=True)
    image = coordinates(width, height)
    areas, lefts, flips = [], [], []
    for row in range(300):
        crop = augment(image, augmentation_rng(0, 0, row), settings).astype(int)
        across, down = crop[32, :, 0], crop[:, 32, 1]
        flips.append(across[0] > across[-1])
        share_x, share_y = np.ptp(across) / 250, np.ptp(down) / 250
        areas.append(share_x * share_y)
        lefts.append(across.min())
        assert 0.70 < share_x * width / (share_y * height) < 1.42
    assert min(areas) > 0.25 and max(areas) > 0.8
    assert min(lefts) < 10 and max(lefts) > 60
    assert 0.4 < np.mean(flips) < 0.6


def test_without_crop_and_flip_it_is_the_test_time_picture() -> None:
    settings = DataSettings(image_size=40, crop_scale=1.0, flip=False)
    image = coordinates(120, 80)
    expected = centre_square(Image.fromarray(image), 40)
    for row in range(3):
        assert (augment(image, augmentation_rng(0, 0, row), settings) == expected).all()


def test_a_picture_too_narrow_for_any_crop_gives_its_centre() -> None:
    settings = DataSettings(image_size=8, crop_scale=0.9, flip=False)
    image = coordinates(400, 10)
    crop = augment(image, augmentation_rng(0, 0, 0), settings)
    assert (crop == centre_square(Image.fromarray(image), 8)).all()
