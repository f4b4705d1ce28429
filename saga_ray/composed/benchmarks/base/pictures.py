"""A picture of a benchmark: a file, or the crop around one object in it."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from saga_ray.data.decoding import decode
from saga_ray.data.pictures import read_bytes
from saga_ray.errors import UserError

Box = tuple[float, float, float, float]
"""Left, top, width, height of an object in pixels of the whole picture."""

DILATION = 0.7
"""How far a crop reaches beyond its box, in widths (heights) of the box (GeneCIS)."""

ALL_PIXELS = 1 << 20
"""A size to decode at that no JPEG is reduced for; a reduced one would not fit its box."""


@dataclass(frozen=True)
class Picture:
    """What is embedded under one id."""

    id: str
    path: str
    box: Box | None = None
    """None: the whole picture; else the crop that `dilated_square` cuts."""
    thing: str = ""
    """What the prompt names it, where a benchmark's pictures are all of one thing, such as dress."""


def load(picture: Picture, size: int) -> Image.Image:
    """The picture or its crop, upright RGB; `size` (pixels) is what it will be resized to.

    Raises UserError, with the path, for what cannot be read: a query less would be another benchmark.
    """
    try:
        image = decode(read_bytes(picture.path), size if picture.box is None else ALL_PIXELS)
    # a broken file can make Pillow's decoders raise nearly anything
    except Exception as error:
        raise UserError(
            f"{picture.path}: cannot be read as a picture ({error or type(error).__name__}); get it again"
        ) from error
    if picture.box is None:
        return image
    try:
        return dilated_square(image, picture.box)
    except ValueError as error:
        raise UserError(f"{picture.path}: {error}; check picture and annotation") from error


def dilated_square(image: Image.Image, box: Box) -> Image.Image:
    """The box widened by `DILATION`, cut off at the picture's border, in the middle of a black square.

    The right border is counted from the left one **after** that was cut off, as GeneCIS counts it, and so
    is the lower one: a crop at the left or upper border is as large as one that is not cut off.
    Raises ValueError for a box with no pixel in the picture.
    """
    x, y, width, height = box
    left, top = max(0.0, x - DILATION * width), max(0.0, y - DILATION * height)
    right = min(float(image.width), left + (1 + DILATION) * width)
    bottom = min(float(image.height), top + (1 + DILATION) * height)
    edges = (round(left), round(top), round(right), round(bottom))
    if edges[0] >= edges[2] or edges[1] >= edges[3]:
        raise ValueError(f"the box {box} has no pixel in a picture of {image.width} x {image.height}")
    crop = image.crop(edges)
    side = max(crop.size)
    square = Image.new("RGB", (side, side))
    square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
    return square
