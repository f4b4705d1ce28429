"""What MLflow loads when it loads a logged embedder of composed retrieval: pictures, texts or both in,
embeddings out.

A logged model's MLmodel file names this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.data.decoding import centre_square, decode
from saga_ray.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

BATCH = 64  # rows embedded at a time
Value = TypeVar("Value", bytes, str)


class ServedEmbedder:
    """An embedder behind MLflow's `predict`."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder.eval()

    def predict(self, rows: pd.DataFrame, params: object = None) -> NDArray[np.float32]:
        """L2-normalised embeddings, one for each row of the columns `image` (an encoded picture's bytes) and
        `text`: an image alone as a gallery's picture, a text alone as a text, both as a composed query.

        Raises UserError for a row that has neither.
        """
        images, texts = _given(rows, "image", bytes), _given(rows, "text", str)
        z_BE = np.empty((len(rows), self.embedder.size), dtype=np.float32)
        kinds = [(image is not None, text is not None) for image, text in zip(images, texts, strict=True)]
        if (False, False) in kinds:
            raise UserError(f"row {kinds.index((False, False))} has neither an image nor a text: give one")
        for kind in dict.fromkeys(kinds):
            of_kind = [row for row, own in enumerate(kinds) if own == kind]
            for start in range(0, len(of_kind), BATCH):
                own = of_kind[start : start + BATCH]
                z_BE[own] = self._embed([images[row] for row in own], [texts[row] for row in own])
        return z_BE

    @torch.inference_mode()
    def _embed(self, images: Sequence[bytes | None], texts: Sequence[str | None]) -> NDArray[np.float32]:
        said = [text for text in texts if text is not None]
        seen = [image for image in images if image is not None]
        z_BE: Tensor
        if not seen:
            z_BE = self.embedder.texts(said)
        else:
            size = self.embedder.image_size
            pixels = np.stack([centre_square(decode(image, size), size) for image in seen])
            x_BND = self.embedder.tokens(torch.from_numpy(pixels).to(self.embedder.device))
            z_BE = self.embedder.composed(x_BND, said) if said else self.embedder.images(x_BND)
        return z_BE.float().cpu().numpy()


def _given(rows: pd.DataFrame, name: str, kind: type[Value]) -> list[Value | None]:
    """A column's values, none where there is nothing."""
    if name not in rows:
        return [None] * len(rows)
    return [value if isinstance(value, kind) and value else None for value in rows[name]]


def _load_pyfunc(folder: str) -> ServedEmbedder:
    return ServedEmbedder(Embedder.load(Path(folder)))
