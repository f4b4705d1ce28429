"""Embeddings on disk, so that a picture is embedded once: parts in a folder, each written whole or not at
all.

Legend: K embeddings of a part, U wanted ones, E embedding size.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from saga_ray.composed.pictures import PIXELS
from saga_ray.config.home import home
from saga_ray.errors import UserError
from saga_ray.prompts import composed as prompts

SUFFIX, ASIDE = ".safetensors", ".aside"
KEY_BYTES = 32
STALE_S = 3600.0
"""A part is written in seconds: what lies aside for so long is of a process that was killed."""


class Cache:
    """What one embedder makes of pictures, at one size; other embedders and sizes have other folders.

    Several processes may read and add at a time.
    """

    def __init__(self, embedder: str, size: int, *, root: Path | None = None) -> None:
        """`embedder` is its `embedder_hash`; `root` is by default `cache/composed` under ``$SAGA_HOME``."""
        made_by = repr((embedder, size, PIXELS, prompts.image(), prompts.image("thing")))
        self.size = size
        self.id = hashlib.sha256(made_by.encode()).hexdigest()
        self.folder = (root or home() / "cache" / "composed") / self.id

    def read(self, place: Mapping[bytes, int], z_UE: NDArray[np.float32], found_U: NDArray[np.bool_]) -> None:
        """Put the embeddings that are there into their places and mark these in `found_U`.

        Parts that are broken, or not of this cache, are as if they were not there.
        """
        for file in sorted(self.folder.glob(f"*{SUFFIX}")):
            # a broken file makes safetensors raise its own error, a part of another layout a KeyError
            with suppress(SafetensorError, KeyError, FileNotFoundError):
                self._read_part(file, place, z_UE, found_U)

    def _read_part(
        self, file: Path, place: Mapping[bytes, int], z_UE: NDArray[np.float32], found_U: NDArray[np.bool_]
    ) -> None:
        with safe_open(file, framework="numpy") as part:
            head = part.metadata() or {}
            if head.get("cache") != self.id:
                return
            keys_K = part.get_tensor("key")
            wanted = [(row, place[key]) for row, key in enumerate(map(bytes, keys_K)) if key in place]
            if not wanted:
                return
            z_KE = part.get_tensor("z")
        if z_KE.shape != (len(keys_K), self.size) or head.get("sha256") != _digest(keys_K, z_KE):
            return
        rows, places = map(list, zip(*wanted, strict=True))
        z_UE[places] = z_KE[rows]
        found_U[places] = True

    def add(self, keys: Sequence[bytes], z_KE: NDArray[np.float32]) -> None:
        """Write a part. Raises UserError where the folder cannot be written to."""
        assert z_KE.shape == (len(keys), self.size) and z_KE.dtype == np.float32, (z_KE.shape, z_KE.dtype)
        keys_K = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(-1, KEY_BYTES)
        z_KE = np.ascontiguousarray(z_KE)
        head = {"cache": self.id, "sha256": _digest(keys_K, z_KE)}
        file = self.folder / f"{head['sha256'][:32]}{SUFFIX}"
        aside = file.with_name(f"{file.name}.{os.getpid()}{ASIDE}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                aside.write_bytes(save({"key": keys_K, "z": z_KE}, metadata=head))
                os.replace(aside, file)
            finally:
                aside.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(
                f"{self.folder}: embeddings cannot be kept there ({error.strerror or error}); "
                "make room or set SAGA_HOME to another folder"
            ) from error

    def tidy(self) -> None:
        """Take away what processes that were killed have left behind."""
        for file in self.folder.glob(f"*{ASIDE}"):
            with suppress(OSError):  # another process may be tidying too
                if time.time() - file.stat().st_mtime > STALE_S:
                    file.unlink()


def _digest(keys_K: NDArray[np.uint8], z_KE: NDArray[np.float32]) -> str:
    # truncated files are noticed by their length; these bytes notice blocks that never reached the disk
    total = hashlib.sha256(keys_K.tobytes())
    total.update(np.ascontiguousarray(z_KE).data)
    return total.hexdigest()
