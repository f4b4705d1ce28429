"""A picture is turned upright by its EXIF orientation, and nothing else in its metadata matters."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from saga_ray.data.decoding import decode

SHORT, TEXT = 3, 2


def drawing() -> Image.Image:
    """No two of its eight orientations are the same."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8))


def encoded(kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    drawing().save(buffer, kind, **options)
    return buffer.getvalue()


def tags(*entries: tuple[int, int, int, bytes]) -> bytes:
    """EXIF with entries (tag, type, count, value) as they stand, sense or nonsense."""
    body = b"".join(struct.pack("<HHL4s", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<LH", 8, len(entries)) + body + bytes(4)


def orientation(value: int) -> tuple[int, int, int, bytes]:
    return 0x0112, SHORT, 1, struct.pack("<H", value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("value", range(10))
def test_every_orientation_is_applied_as_pillow_does(kind: str, value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    data = encoded(kind, exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    upright = decode(data, 64)
    assert (np.asarray(upright) == np.asarray(expected)).all()
    assert ImageOps.exif_transpose(upright).tobytes() == upright.tobytes(), "it would be turned twice"


def test_an_orientation_that_only_xmp_has_is_applied_once() -> None:
    upright = decode(encoded("JPEG", xmp=b'<rdf tiff:Orientation="6"/>'), 64)
    assert upright.size == (6, 9)
    assert ImageOps.exif_transpose(upright).size == (6, 9)


def test_a_malformed_tag_loses_no_picture() -> None:
    # the unit of the resolution is a number, and here it is text
    data = encoded("JPEG", exif=tags(orientation(6), (0x0128, TEXT, 4, b"dpi\0")))
    with pytest.raises(Exception, match="required argument is not an integer"):
        ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    right = decode(encoded("JPEG", exif=tags(orientation(6))), 64)
    assert decode(data, 64).tobytes() == right.tobytes()


@pytest.mark.parametrize(
    "exif",
    [
        b"Exif\0\0 no tags",
        b"Exif\0\0",
        b"Exif\0\0II*\0" + bytes(2),
        tags(orientation(6))[:20],
        tags((0x0112, TEXT, 4, b"six\0")),
        tags((0x0112, SHORT, 2, b"\6\0\1\0"))[:-8],
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_that_cannot_be_read_turns_nothing(kind: str, exif: bytes) -> None:
    plain = np.asarray(decode(encoded(kind), 64))
    assert (np.asarray(decode(encoded(kind, exif=exif), 64)) == plain).all()
