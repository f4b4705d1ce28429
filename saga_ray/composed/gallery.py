"""Embeddings of a benchmark's pictures: streamed, each picture once, kept on disk while the stream runs.

Legend: M pictures, U different ones among them, B batch, E embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.cache import Cache
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.pictures import PictureRows, picture_keys
from saga_ray.config.settings import EmbeddingSettings
from saga_ray.errors import UserError
from saga_ray.retrieval.embed import embeddings

PART = 1024
"""Embeddings of a part of the cache: what a run that is killed may lose."""


@dataclass(frozen=True, eq=False)
class Embedded:
    """The embedding of picture m is `z_UE[row_M[m]]`: equal pictures share one."""

    z_UE: NDArray[np.float32]
    row_M: NDArray[np.int64]
    keys_U: Sequence[bytes]
    """A SHA-256 for each different picture."""
    computed: int
    """How many of the U were embedded now; the others were in the cache."""


def embed_pictures(
    pictures: Sequence[Picture],
    embedder: Embedder,
    settings: EmbeddingSettings,
    *,
    cache: Cache | None = None,
    local: bool | None = None,
    gpus: float = 0.0,
    say: Callable[[str], None] | None = None,
) -> Embedded:
    """Embed whole pictures and crops; `local` and `gpus` are those of `retrieval.embed.embeddings`.

    With a cache, nothing that it holds is embedded again, and what is new is added to it in parts while the
    stream runs: a run that was killed goes on where it was. Raises UserError, with the path, for a picture
    that cannot be read or whose embedding is not finite.
    """
    keys = picture_keys(pictures)
    place = {key: row for row, key in enumerate(dict.fromkeys(keys))}
    row_M = np.array([place[key] for key in keys], dtype=np.int64)
    first_U = np.unique(row_M, return_index=True)[1]
    keys_U = list(place)
    width = embedder.size
    z_UE = np.empty((len(place), width), dtype=np.float32)
    found_U = np.zeros(len(place), dtype=bool)
    if cache is not None:
        assert cache.size == width, (cache.size, width)
        cache.tidy()
        cache.read(place, z_UE, found_U)
    missing = np.flatnonzero(~found_U)
    if say:
        say(f"pictures     {len(place):,} different ones, {int(found_U.sum()):,} embedded before")
    if len(missing):
        wanted = [pictures[row] for row in first_U[missing]]
        things = [picture.thing for picture in wanted]
        batches = embeddings(
            PictureRows(wanted),
            embedder,
            settings,
            embedder.image_size,
            texts=things if any(things) else None,
            local=local,
            gpus=gpus,
        )
        done = kept = 0

        def keep() -> None:
            nonlocal kept
            if cache is not None and done > kept:
                rows = missing[kept:done]
                cache.add([keys_U[row] for row in rows], z_UE[rows])
                kept = done

        try:
            for z_BE in batches:
                _require_finite(z_BE, wanted[done : done + len(z_BE)])
                z_UE[missing[done : done + len(z_BE)]] = z_BE
                done += len(z_BE)
                if done - kept >= PART:
                    keep()
                    if say:
                        say(f"             {done:,} of {len(missing):,}")
        finally:
            keep()  # what ends a run, a broken picture or Ctrl-C, costs nothing of what is done
        assert done == len(missing), (done, len(missing))
    return Embedded(z_UE, row_M, keys_U, computed=len(missing))


def _require_finite(z_BE: NDArray[np.float32], pictures: Sequence[Picture]) -> None:
    bad = np.flatnonzero(~np.isfinite(z_BE).all(axis=1))
    if len(bad):
        raise UserError(
            f"{pictures[bad[0]].path}: the embedder gives numbers that are not finite; "
            "has its training diverged?"
        )
