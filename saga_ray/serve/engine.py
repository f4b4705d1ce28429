"""The encoder and its index in one process: what computes, behind every way of serving."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from pathlib import Path

import numpy as np
import torch

from saga_ray.config.serving import ServeSettings
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.index import Hit, Index, encoder_hash
from saga_ray.serve.backend import Card, IndexCard, NoIndex, Numbers, Pixels, WrongSize
from saga_ray.serve.batching import Batcher
from saga_ray.serve.metrics import Meter

log = logging.getLogger(__name__)
RELOAD_EVERY_S = 2.0
"""Between two looks for a newer snapshot of the index."""


class Engine:
    """Implements `Backend`. Encoder and index are one unit: replaced together, they always fit together."""

    def __init__(
        self,
        folder: Path,
        settings: ServeSettings,
        *,
        name: str | None = None,
        device: str = "cpu",
        meter: Meter | None = None,
    ) -> None:
        """Raises UserError where the folder holds no encoder, or another encoder built the index."""
        if device == "cpu":
            torch.set_num_threads(settings.threads)
        self._encoder = Encoder.load(folder).to(device)
        self._device = device
        self._name = name or settings.name or folder.name
        self._hash = encoder_hash(folder)
        self._index: Index | None = None
        if settings.index is not None:
            self._index = Index.open(Path(settings.index).expanduser())
            self._index.require_encoder(folder)
        self._looked = time.monotonic()
        self._reloading: asyncio.Future[None] | None = None
        self._batcher = Batcher(
            self._compute,
            most=settings.batch_pictures,
            wait_s=settings.batch_wait_ms / 1000,
            waiting=settings.waiting_pictures,
            count=(meter or Meter()).batch,
        )
        self._compute(np.zeros((1, *self._shape), dtype=np.uint8))  # the first pass is slow; not a client's

    @property
    def _shape(self) -> tuple[int, int, int]:
        size = self._encoder.tower.image_size
        return (size, size, 3)

    def _compute(self, images_BHWC: Pixels) -> Numbers:
        """Embedding and attention beside each other, z_BE | beta_BN: one pass gives both."""
        with torch.inference_mode():
            images = torch.tensor(images_BHWC, device=self._device)  # a copy: Ray's memory is read-only
            z_BE, beta_BN = self._encoder.pooler(self._encoder.tokens(images))
            return torch.cat([z_BE, beta_BN], dim=1).float().cpu().numpy()

    async def _run(self, images_BHWC: Pixels) -> tuple[Numbers, Numbers]:
        if images_BHWC.shape[1:] != self._shape:
            raise WrongSize(self._encoder.tower.image_size)
        results_BR = await self._batcher(images_BHWC)
        width = self._encoder.pooler.embedding_size
        return results_BR[:, :width], results_BR[:, width:]

    async def card(self) -> Card:
        """See `Backend`."""
        index = await self._fresh_index() if self._index is not None else None
        return Card(
            id=self._name,
            hash=self._hash,
            image_size=self._encoder.tower.image_size,
            embedding_size=self._encoder.pooler.embedding_size,
            tokens_per_image=self._encoder.tower.tokens_per_image,
            index=None if index is None else IndexCard(index.size, index.kind),
        )

    async def embed(self, images_BHWC: Pixels) -> Numbers:
        """See `Backend`."""
        return (await self._run(images_BHWC))[0]

    async def attention(self, images_BHWC: Pixels) -> Numbers:
        """See `Backend`."""
        return (await self._run(images_BHWC))[1]

    async def search(self, images_BHWC: Pixels, k: int) -> list[list[Hit]]:
        """See `Backend`."""
        index = await self._fresh_index()
        z_QE = await self.embed(images_BHWC)
        return await asyncio.to_thread(index.search, z_QE, k)

    async def neighbours(self, id: str, k: int) -> list[Hit] | None:
        """See `Backend`."""
        index = await self._fresh_index()
        z_E = index.vector(id)
        if z_E is None:
            return None
        [hits] = await asyncio.to_thread(index.search, z_E[None] / np.linalg.norm(z_E), k + 1)
        return [hit for hit in hits if hit.id != id][:k]

    async def thumbnail(self, id: str) -> bytes | None:
        """See `Backend`."""
        index = await self._fresh_index()
        return await asyncio.to_thread(index.thumbnail, id)

    async def close(self) -> None:
        """Stop computing."""
        await self._batcher.close()

    async def _fresh_index(self) -> Index:
        """The index; from time to time a look for a newer snapshot is begun, which a later call gets."""
        if self._index is None:
            raise NoIndex
        due = time.monotonic() - self._looked > RELOAD_EVERY_S
        if due and (self._reloading is None or self._reloading.done()):
            self._looked = time.monotonic()
            self._reloading = asyncio.get_running_loop().run_in_executor(None, self._reload, self._index)
        return self._index

    def _reload(self, index: Index) -> None:
        """Take a newer snapshot, unless another encoder built that one."""
        newer = copy.copy(index)  # calls that are under way keep theirs
        try:
            if not newer.reload():
                return
        except UserError as error:
            log.warning("the index cannot be read again, the server goes on with what it has: %s", error)
            return
        if newer.encoder_hash != self._hash:
            log.warning("the index %s is now another encoder's; the server keeps the old one", index.folder)
            return
        self._index = newer
