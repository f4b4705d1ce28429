"""Whole pictures and crops around boxes, at every border."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from saga_ray.composed.benchmarks import Picture, load
from saga_ray.composed.benchmarks.base.pictures import Box, dilated_square
from saga_ray.errors import UserError

WIDTH, HEIGHT = 100, 60


@pytest.fixture(scope="module")
def places() -> Image.Image:
    """Each pixel holds its own column and row, and 255: no pixel is black."""
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    return Image.fromarray(np.dstack([column, row, np.full_like(row, 255)]).astype(np.uint8))


def shown(square: Image.Image) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of the picture that a crop shows."""
    pixels = np.asarray(square)
    seen = pixels[pixels[..., 2] == 255]
    return (
        int(seen[:, 0].min()),
        int(seen[:, 1].min()),
        int(seen[:, 0].max()) + 1,
        int(seen[:, 1].max()) + 1,
    )


@pytest.mark.parametrize(
    ("box", "part"),
    [
        ((40, 20, 10, 10), (33, 13, 50, 30)),  # 0.7 of the box to the left and above, none to the right
        ((0, 0, 10, 10), (0, 0, 17, 17)),  # at the corner the crop is as large as elsewhere
        ((2, 3, 20, 10), (0, 0, 34, 17)),
        ((90, 50, 10, 10), (83, 43, 100, 60)),
        ((95, 55, 10, 10), (88, 48, 100, 60)),  # the box itself leaves the picture
        ((0, 0, 100, 60), (0, 0, 100, 60)),
        ((-5, -5, 10, 10), (0, 0, 17, 17)),
        ((40.4, 20.6, 10.0, 10.0), (33, 14, 50, 31)),
    ],
)
def test_a_crop_is_dilated_and_cut_off_at_the_border(
    places: Image.Image, box: Box, part: tuple[int, int, int, int]
) -> None:
    assert shown(dilated_square(places, box)) == part


def test_a_crop_stands_in_the_middle_of_a_black_square(places: Image.Image) -> None:
    square = np.asarray(dilated_square(places, (40, 20, 20, 10)))  # 34 x 17 pixels
    assert square.shape == (34, 34, 3)
    assert (square[:8] == 0).all() and (square[8:25, :, 2] == 255).all() and (square[25:] == 0).all()


@given(
    st.tuples(st.floats(-20, 120), st.floats(-20, 80), st.floats(1, 150), st.floats(1, 150)),
)
def test_a_crop_is_a_square_of_the_picture_s_own_pixels(box: Box) -> None:
    row, column = np.mgrid[:HEIGHT, :WIDTH]
    image = Image.fromarray(np.dstack([column, row, np.full_like(row, 255)]).astype(np.uint8))
    try:
        square = dilated_square(image, box)
    except ValueError as error:
        # widened by 0.7 of itself, it still ends before the picture begins or begins after it ends
        assert "no pixel" in str(error)
        assert max(0, box[0] - 0.7 * box[2]) >= WIDTH - 1 or max(0, box[1] - 0.7 * box[3]) >= HEIGHT - 1
        return
    left, top, right, bottom = shown(square)
    assert square.width == square.height == max(right - left, bottom - top)


def test_a_crop_of_a_large_jpeg_is_cut_from_all_its_pixels(tmp_path: Path) -> None:
    image = Image.new("RGB", (1600, 1200))
    image.paste((255, 255, 255), (800, 600, 900, 700))
    image.save(tmp_path / "large.jpg")
    crop = load(Picture("x", str(tmp_path / "large.jpg"), (800, 600, 100, 100)), 32)
    assert crop.size == (170, 170)
    assert np.asarray(crop)[80:160, 80:160].min() > 240 and np.asarray(crop)[:60].max() < 15


def test_a_whole_picture_is_upright_rgb(tmp_path: Path) -> None:
    Image.new("L", (30, 20), 200).save(tmp_path / "grey.png")
    image = load(Picture("x", str(tmp_path / "grey.png")), 16)
    assert image.mode == "RGB" and image.size == (30, 20)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no picture")
    with pytest.raises(UserError, match=r"broken\.jpg: cannot be read as a picture"):
        load(Picture("x", str(tmp_path / "broken.jpg")), 16)
    with pytest.raises(UserError, match=r"gone\.jpg: cannot be read as a picture"):
        load(Picture("x", str(tmp_path / "gone.jpg")), 16)
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    with pytest.raises(UserError, match=r"small\.png: the box .* has no pixel in a picture of 30 x 20"):
        load(Picture("x", str(tmp_path / "small.png"), (80, 5, 10, 10)), 16)
