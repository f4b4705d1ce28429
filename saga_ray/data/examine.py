"""Open every picture once: which are missing or broken, what they look like, and their digests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import imagehash
import numpy as np
from PIL import Image, UnidentifiedImageError

from saga_ray.data.decoding import Pixels, decode
from saga_ray.data.pictures import Source, read_bytes
from saga_ray.data.utf8 import is_utf8

LOOK_SIZE = 16
"""Pixels to a side of the small copies that near-duplicates are compared on."""


@dataclass(frozen=True)
class Look:
    """What a picture looks like, coarsely: invariant to its size and encoding, up to rounding."""

    perceptual_hash: int
    """64 bits of the low frequencies of the grey picture (pHash)."""
    small: Pixels
    """The whole picture squeezed to LOOK_SIZE x LOOK_SIZE x RGB."""


@dataclass(frozen=True)
class Examined:
    """What became of one picture; `problem` is None where it could be decoded whole."""

    digest: str
    """SHA-256 of the encoded bytes; empty for a missing file."""
    problem: str | None = None
    missing: bool = False
    look: Look | None = None


def examine(images: Sequence[Source], *, looks: bool = False, banner: int = 0) -> list[Examined]:
    """Read and decode every picture in threads; `looks` also says what it looks like (costs about twice the
    time). `banner` is that of `Rows`."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        return list(pool.map(partial(_examine_one, looks=looks, banner=banner), images))


def _examine_one(source: Source, looks: bool, banner: int) -> Examined:
    if not source:
        return Examined("", "there is no picture in this row")
    if isinstance(source, str) and not is_utf8(source):
        return Examined("", "its name is not UTF-8; rename the file or folder")
    try:
        data = read_bytes(source)
    except FileNotFoundError:
        return Examined("", "there is no such file", missing=True)
    # fsspec raises what its file systems raise: ImportError, ValueError, errors of cloud libraries
    except Exception as error:
        return Examined("", f"cannot be read: {error}")
    digest = hashlib.sha256(data).hexdigest()
    try:
        image = decode(data, 4 * LOOK_SIZE, banner=banner)
    # a broken file can make Pillow's decoders raise nearly anything
    except Exception as error:
        return Examined(digest, _reason(error))
    return Examined(digest, look=_look(image) if looks else None)


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "is not a picture in a known format"
    return f"cannot be decoded: {error or type(error).__name__}"


def _look(image: Image.Image) -> Look:
    bits = np.packbits(imagehash.phash(image).hash.ravel())
    small = image.resize((LOOK_SIZE, LOOK_SIZE), Image.Resampling.BILINEAR)
    return Look(int.from_bytes(bits.tobytes()), np.asarray(small))
