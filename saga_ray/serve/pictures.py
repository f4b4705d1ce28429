"""Untrusted bytes to pixels: only known formats, only sizes that fit in memory, one sentence for the rest.

What passes is decoded by `saga_ray.data.decoding`, as in training and when an index is built: grayscale,
palette, CMYK and 16-bit pictures become 8-bit RGB, transparent parts white.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

from PIL import Image, UnidentifiedImageError

from saga_ray.data.decoding import centre_square, decode
from saga_ray.serve.backend import Pixels
from saga_ray.serve.errors import InvalidPicture

# Pillow warns of large pictures, which a limit decides here, and of odd metadata: strangers' pictures must
# not fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")

MILLION = 1_000_000
ONE_PICTURE = ("JPEG", "MPO")
"""MPO: what phones call a JPEG with a preview behind it; the first picture is meant."""
TOO_DEEP = ("I", "F")
"""Pillow's modes with 32 bits a pixel: there is no telling which value is white."""


class Decoder:
    """Decodes pictures within limits. May be used by several threads at the same time."""

    def __init__(self, formats: Sequence[str], *, megapixels: float, side: int) -> None:
        self._formats, self._megapixels, self._side = tuple(formats), megapixels, side

    def __call__(self, data: bytes, size: int) -> Pixels:
        """The centre square of a picture at `size` pixels, H x W x C. Raises InvalidPicture."""
        if not data:
            raise InvalidPicture("is empty: 0 bytes were sent")
        try:
            self._check(Image.open(io.BytesIO(data), formats=self._formats))
            return centre_square(decode(data, size, formats=self._formats), size)
        except InvalidPicture:
            raise
        except UnidentifiedImageError:
            raise InvalidPicture(f"is none: it must be {_list(self._formats)}") from None
        except (Image.DecompressionBombError, MemoryError):
            raise self._too_large() from None
        except Exception as error:  # each format fails in its own way
            raise InvalidPicture("is damaged or cut off: it cannot be read to its end") from error

    def _check(self, image: Image.Image) -> None:
        """By the header alone, before any pixel is decoded."""
        width, height = image.size
        if max(width, height) > self._side or width * height > self._megapixels * MILLION:
            raise self._too_large(f" and has {width} x {height}")
        if image.format not in ONE_PICTURE and getattr(image, "is_animated", False):
            raise InvalidPicture("is animated: send a single frame")
        if image.mode in TOO_DEEP:
            raise InvalidPicture("has 32 bits a channel: it must have 8 or 16")

    def _too_large(self, has: str = "") -> InvalidPicture:
        return InvalidPicture(
            f"is too large: it may have {self._megapixels:g} million pixels, {self._side} along a side{has}",
            413,
        )


def _list(formats: Sequence[str]) -> str:
    *others, last = formats
    return f"{', '.join(others)} or {last}" if others else last
