"""What MLflow loads when it loads a logged encoder: pictures in, embeddings out.

A logged model's MLmodel file names this module.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.models.encoder import Encoder

BATCH = 64  # pictures embedded at a time


class ServedEncoder:
    """An encoder behind MLflow's `predict`."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder.eval()

    def predict(self, images_BHWC: NDArray[np.uint8], params: object = None) -> NDArray[np.float32]:
        """L2-normalised embeddings (B x E) of pictures at the encoder's image size (RGB, 0 to 255)."""
        with torch.inference_mode():
            parts = [
                self.encoder(torch.from_numpy(np.ascontiguousarray(images_BHWC[start : start + BATCH])))
                for start in range(0, len(images_BHWC), BATCH)
            ]
        return torch.cat(parts).float().numpy()


def _load_pyfunc(folder: str) -> ServedEncoder:
    return ServedEncoder(Encoder.load(Path(folder)))
