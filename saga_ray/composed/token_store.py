"""Tokens of pictures that a worker has seen: the tower is frozen and nothing is augmented, so they never
change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.data.decoding import Pixels


class TokenStore:
    """Gives tokens by row, and keeps as many as fit into its memory."""

    def __init__(self, embedder: Embedder, gib: float, chunk: int) -> None:
        """`chunk`: pictures that the tower encodes at the same time."""
        self._embedder, self._chunk = embedder, chunk
        self._free = int(gib * 2**30)
        self._kept: dict[int, Tensor] = {}

    def tokens(self, rows: Sequence[int], images_BHWC: Pixels) -> dict[int, Tensor]:
        """Row -> x_ND, on the embedder's device, of pictures as they come."""
        missing = [place for place, row in enumerate(rows) if row not in self._kept]
        found = {row: self._kept[row] for row in rows if row in self._kept}
        for start in range(0, len(missing), self._chunk):
            places = missing[start : start + self._chunk]
            # a copy: what a stream hands out may not be written to, which torch warns of
            chunk_BHWC = torch.from_numpy(np.array(images_BHWC[places])).to(self._embedder.device)
            for place, x_ND in zip(places, self._embedder.tokens(chunk_BHWC), strict=True):
                found[rows[place]] = x_ND
                self._keep(rows[place], x_ND)
        return found

    def _keep(self, row: int, x_ND: Tensor) -> None:
        size = x_ND.numel() * x_ND.element_size()
        if size <= self._free:
            self._kept[row] = x_ND.clone()  # of the chunk's memory its own part alone
            self._free -= size
