"""Near-duplicate pictures: the same picture again, re-encoded, resized or lightly retouched.

Two pictures count as near-duplicates when their perceptual hashes (pHash, 64 bits) differ in at most
HASH_BITS bits *and* no spot of their 16 x 16 copies differs by more than SMALL_DIFFERENCE in any colour. The
hash alone is too coarse for objects on a plain background: its low frequencies are the silhouette, and a
chair in another colour is another picture.

Both limits were set on 200 pictures of the furniture set: copies at JPEG quality 50, at 57 to 200 % of the
size, or 8 grey levels brighter differ by at most 6 bits and 11 grey levels (quality 30: 12 and 15), while
pictures of different models on two sides of its split whose hashes are that close differ by 20 or more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from saga_ray.data.examine import Look

HASH_BITS = 8
SMALL_DIFFERENCE = 15
"""Of 255 grey levels."""
CHUNK = 1024
"""Rows compared with all others at a time: bounds memory (8 MB per million pictures and row of the chunk)."""


def near_duplicates(looks: Sequence[Look], groups: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, of near-duplicates whose groups differ; every pair is looked at, in time quadratic
    in `looks`."""
    hashes = np.array([look.perceptual_hash for look in looks], dtype=np.uint64)
    small = (
        np.stack([look.small for look in looks]).astype(np.int16)
        if looks
        else np.empty((0, 1, 1, 3), np.int16)
    )
    for start in range(0, len(looks), CHUNK):
        rows = slice(start, start + CHUNK)
        close = np.bitwise_count(hashes[rows, None] ^ hashes[None, start:]) <= HASH_BITS
        close &= groups[rows, None] != groups[None, start:]
        first, second = np.nonzero(np.triu(close, 1))
        for i, j in zip(first + start, second + start, strict=True):
            if np.abs(small[i] - small[j]).max() <= SMALL_DIFFERENCE:
                yield int(i), int(j)
