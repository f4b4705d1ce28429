"""The model and its index in one process: what computes, behind every way of serving."""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from saga_ray.config.serving import ServeSettings
from saga_ray.errors import UserError
from saga_ray.retrieval.index import Hit, Index
from saga_ray.serve import models
from saga_ray.serve.backend import (
    KINDS,
    BadText,
    Card,
    Embedded,
    IndexCard,
    Item,
    NoAttention,
    NoIndex,
    NotTaken,
    Numbers,
    WrongSize,
)
from saga_ray.serve.batching import Batcher
from saga_ray.serve.metrics import Meter

log = logging.getLogger(__name__)
RELOAD_EVERY_S = 2.0
"""Between two looks for a newer snapshot of the index."""


class Engine:
    """Implements `Backend`. Model and index are one unit: replaced together, they always fit together."""

    def __init__(
        self,
        folder: Path,
        settings: ServeSettings,
        *,
        name: str | None = None,
        device: str = "cpu",
        meter: Meter | None = None,
    ) -> None:
        """Raises UserError where the folder holds no model, or another model built the index."""
        if device == "cpu":
            torch.set_num_threads(settings.threads)
        self._model = models.load(folder, device)
        self._device = device
        self._name = name or settings.name or folder.name
        self._index: Index | None = None
        if settings.index is not None:
            self._index = Index.open(Path(settings.index).expanduser())
            self._index.require_model(self._model.hash, folder)
        self._looked = time.monotonic()
        self._reloading: asyncio.Future[None] | None = None
        self._batcher: Batcher[Item] = Batcher(
            self._compute,
            most=settings.batch_pictures,
            wait_s=settings.batch_wait_ms / 1000,
            waiting=settings.waiting_pictures,
            count=(meter or Meter()).batch,
        )
        self._compute([Item(np.zeros(self._shape, dtype=np.uint8))])  # the first pass is slow; not a client's

    @property
    def _shape(self) -> tuple[int, int, int]:
        return (self._model.image_size, self._model.image_size, 3)

    def _compute(self, items: list[Item]) -> Numbers:
        """What the model makes of a batch, z_BE | beta_BN; it is given one kind of item at a time."""
        width = self._model.embedding_size + self._model.patches
        results_BR = np.empty((len(items), width), dtype=np.float32)
        for kind in KINDS:
            rows = [row for row, item in enumerate(items) if item.kind == kind]
            if not rows:
                continue
            images = [image for row in rows if (image := items[row].image_HWC) is not None]
            texts = [text for row in rows if (text := items[row].text) is not None]
            with torch.inference_mode():
                images_BHWC = torch.from_numpy(np.stack(images)).to(self._device) if images else None
                results_BR[rows] = self._model.compute(kind, images_BHWC, texts).float().cpu().numpy()
        return results_BR

    async def _run(self, items: Sequence[Item]) -> tuple[Numbers, int]:
        """The results, and the tokens that were read for them."""
        for item in items:
            if item.kind not in self._model.takes:
                raise NotTaken(item.kind)
            if item.image_HWC is not None and item.image_HWC.shape != self._shape:
                raise WrongSize(self._model.image_size)
        if any(item.text is not None for item in items):
            tokens = await asyncio.to_thread(self._tokens, items)  # to cut a text up may take its time
        else:
            tokens = self._tokens(items)
        return await self._batcher(items), tokens

    def _tokens(self, items: Sequence[Item]) -> int:
        """How many the items have. Raises BadText for an item that the model cannot read."""
        total = 0
        for place, item in enumerate(items):
            try:
                length = self._model.length(item)
            except UserError as error:
                raise BadText(place, f"cannot be read: {error}") from error
            if length > self._model.context:
                raise BadText(
                    place,
                    f"has {length:,} tokens with its prompt, and the model reads {self._model.context:,} at "
                    "most: shorten it",
                )
            total += length
        return total

    async def card(self) -> Card:
        """See `Backend`."""
        index = await self._fresh_index() if self._index is not None else None
        return Card(
            id=self._name,
            hash=self._model.hash,
            takes=self._model.takes,
            image_size=self._model.image_size,
            embedding_size=self._model.embedding_size,
            attention=self._model.patches > 0,
            index=None if index is None else IndexCard(index.size, index.kind),
        )

    async def embed(self, items: Sequence[Item]) -> Embedded:
        """See `Backend`."""
        results_BR, tokens = await self._run(items)
        return Embedded(results_BR[:, : self._model.embedding_size], tokens)

    async def attention(self, items: Sequence[Item]) -> Numbers:
        """See `Backend`."""
        if not self._model.patches:
            raise NoAttention
        results_BR, _ = await self._run(items)
        return results_BR[:, self._model.embedding_size :]

    async def search(self, items: Sequence[Item], k: int) -> list[list[Hit]]:
        """See `Backend`."""
        index = await self._fresh_index()
        embedded = await self.embed(items)
        return await asyncio.to_thread(index.search, embedded.z_BE, k)

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
        """Take a newer snapshot, unless another model built that one."""
        newer = copy.copy(index)  # calls that are under way keep theirs
        try:
            if not newer.reload():
                return
        except UserError as error:
            log.warning("the index cannot be read again, the server goes on with what it has: %s", error)
            return
        if newer.encoder_hash != self._model.hash:
            log.warning("the index %s is now another model's; the server keeps the old one", index.folder)
            return
        self._index = newer
