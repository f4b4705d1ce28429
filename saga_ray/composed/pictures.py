"""Pictures of a benchmark as rows that can be sent to other processes, and what tells two of them apart.

Nothing here imports torch: processes that decode would wait for it. Legend: M pictures.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saga_ray.composed.benchmarks.base.pictures import DILATION, Box, Picture, load
from saga_ray.data.decoding import centre_square
from saga_ray.data.pictures import read_bytes
from saga_ray.errors import UserError
from saga_ray.retrieval.index.identity import PREPROCESSING

PIXELS = f"{PREPROCESSING}, boxes dilated by {DILATION}"
"""Names how pixels are made of a picture. Changed pixels need a new name."""
THREADS = 4 * (os.cpu_count() or 1)
"""That read files at once: they mostly wait for the disk or the network."""


class PictureRows:
    """Pictures in columns, so that 123,403 of them reach another process in no time."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._paths = pa.array([picture.path for picture in pictures], type=pa.large_string())
        self._boxes_M4 = np.array([picture.box or (np.nan,) * 4 for picture in pictures], dtype=np.float64)

    def __len__(self) -> int:
        return len(self._paths)

    def read_image(self, row: int, size: int) -> NDArray[np.uint8]:
        """The picture's (its crop's) centred square at `size` pixels: uint8, HWC, RGB.

        Raises UserError, with the path, for what cannot be read.
        """
        path = self._paths[row].as_py()
        left, top, width, height = self._boxes_M4[row].tolist()
        box: Box | None = None if np.isnan(left) else (left, top, width, height)
        return centre_square(load(Picture(path, path, box), size), size)


def picture_keys(pictures: Sequence[Picture]) -> list[bytes]:
    """A SHA-256 a picture, over its file's bytes, its box, and what its prompt names: equal ones have equal
    embeddings.

    Raises UserError, with the path, for a file that cannot be read.
    """
    paths = list(dict.fromkeys(picture.path for picture in pictures))
    with ThreadPoolExecutor(THREADS) as pool:
        digests = dict(zip(paths, pool.map(_digest, paths), strict=True))
    return [_key(digests[picture.path], picture) for picture in pictures]


def _key(digest: bytes, picture: Picture) -> bytes:
    if picture.box is None and not picture.thing:
        return digest
    box = None if picture.box is None else tuple(map(float, picture.box))
    return hashlib.sha256(digest + repr((box, picture.thing)).encode()).digest()


def _digest(path: str) -> bytes:
    try:
        return hashlib.sha256(read_bytes(path)).digest()
    except OSError as error:
        raise UserError(f"{path}: cannot be read as a picture ({error}); get it again") from error
