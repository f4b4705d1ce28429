"""Which encoder made an embedding: embeddings of two encoders must never be compared."""

from __future__ import annotations

import hashlib
from pathlib import Path

from saga_ray.errors import UserError

PREPROCESSING = "centre-square-bicubic-1"
"""Names how `saga_ray.data.decoding` makes pixels of a picture. Changed pixels need a new name here."""

FILES = ("config.json", "encoder.safetensors")


def encoder_hash(folder: Path) -> str:
    """SHA-256 over a stored encoder's configuration and weights and the preprocessing's name.

    Raises UserError where the folder holds no encoder.
    """
    total = hashlib.sha256(PREPROCESSING.encode())
    for name in FILES:
        file = folder / name
        if not file.is_file():
            raise UserError(f"{folder} holds no encoder: it needs {' and '.join(FILES)}")
        with file.open("rb") as content:
            # the digest of each, so that bytes cannot move from one file to the other unnoticed
            total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
