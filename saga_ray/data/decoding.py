"""One picture: from its encoded bytes to RGB pixels.

Needs nothing else of this project: an exported encoder carries this file.
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]

ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by the EXIF orientation; any other value is upright."""
METADATA = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
"""Where Pillow keeps the orientation."""

DECODE_MARGIN = 2
"""JPEGs are decoded at half, quarter or eighth size while both sides keep this many times the size asked for.
"""


def decode(data: bytes, size: int, formats: tuple[str, ...] | None = None, *, banner: int = 0) -> Image.Image:
    """Decode to upright RGB; `size` (pixels) is what the picture will be resized to, so that large JPEGs
    decode faster. `formats` (Pillow's names) limits what is tried; none: all that Pillow knows. `banner` is
    the height of a strip at the bottom, in pixels of the whole picture, that is cut off.

    The EXIF orientation is applied, transparent parts become white, grayscale, palette and CMYK pictures
    become RGB. Raises OSError, ValueError or the format's own error for what is no whole picture.
    """
    image: Image.Image = Image.open(io.BytesIO(data), formats=formats)
    height = image.height
    image.draft(None, (DECODE_MARGIN * size, DECODE_MARGIN * size))
    image.load()
    # a JPEG that was decoded smaller has a smaller banner; half a row of it is cut as a whole one
    banner = math.ceil(banner * image.height / height)
    image = _upright(image)
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    if banner >= image.height:
        raise ValueError("the picture is no higher than the banner at its bottom")
    return image.convert("RGB").crop((0, 0, image.width, image.height - banner))


def _upright(image: Image.Image) -> Image.Image:
    """As `ImageOps.exif_transpose`, which loses a picture where Pillow cannot write back a tag that it read;
    here metadata that cannot be read turns nothing."""
    try:
        method = UPRIGHT.get(image.getexif().get(ORIENTATION, 1))
    # garbage makes Pillow's reader raise nearly anything
    except Exception:
        return image
    if method is None:
        return image
    image = image.transpose(method)
    for name in METADATA:
        # or whoever reads it next would turn the picture again
        image.info.pop(name, None)
    return image


def centre_square(image: Image.Image, size: int) -> Pixels:
    """The largest centred square, resized to `size` pixels: uint8, height x width x RGB."""
    side = min(image.size)
    left, top = (image.width - side) / 2, (image.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
