"""The pictures of a table, one a row, and how one of them is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from PIL import Image

from saga_ray.data.decoding import decode
from saga_ray.data.pictures import Source, read_bytes


@dataclass(frozen=True, eq=False)
class PictureColumn:
    """Sources without pixels; all that a decoding task needs of a table, whichever process it runs in."""

    sources: pa.Array
    """Paths (large_string) or encoded pictures (large_binary); Arrow, so that tasks map it and copy nothing.
    """
    banner: int = 0
    """Pixels that every picture loses at its bottom; see `Rows.banner`."""

    def source(self, row: int) -> Source:
        """A picture's path, address or encoded bytes."""
        source: Source = self.sources[row].as_py()
        return source

    def decode(self, row: int, size: int) -> Image.Image:
        """A picture as upright RGB without its banner, for resizing to `size` pixels. Raises what
        `read_bytes` and `decode` raise."""
        return decode(read_bytes(self.source(row)), size, banner=self.banner)

    def take(self, rows: Sequence[int]) -> PictureColumn:
        """These rows' pictures, in this order."""
        return replace(self, sources=self.sources.take(pa.array(rows, type=pa.int64())))
