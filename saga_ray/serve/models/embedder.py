"""An embedder of composed retrieval as a model to serve: each kind of item has a prompt of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from saga_ray.composed.embedder import Embedder
from saga_ray.composed.identity import gallery_hash
from saga_ray.prompts import composed as prompts
from saga_ray.serve.backend import KINDS, Item, Kind


class StoredEmbedder:
    """See `Servable`."""

    takes: tuple[Kind, ...] = KINDS
    patches = 0
    """Its attention is that of many layers and heads, over text too: none of them says where it looked."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.hash = folder, gallery_hash(folder)
        self.module = Embedder.load(folder).to(device).eval()
        self.image_size = self.module.image_size
        self.embedding_size = self.module.size
        self.context = self.module.context
        self._image_length = self.module.length(prompts.image(), image=True)

    def length(self, item: Item) -> int:
        """See `Servable`."""
        if item.text is None:
            return self._image_length
        if item.image_HWC is None:
            return self.module.length(prompts.text(item.text), image=False)
        return self.module.length(prompts.composed(item.text), image=True)

    def compute(self, kind: Kind, images_BHWC: Tensor | None, texts: Sequence[str]) -> Tensor:
        """See `Servable`."""
        if images_BHWC is None:
            return self.module.texts(texts)
        if kind == "image":
            z_BE: Tensor = self.module(images_BHWC)
            return z_BE
        return self.module.composed(self.module.tokens(images_BHWC), texts)
