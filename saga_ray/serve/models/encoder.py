"""An encoder as a model to serve: pictures alone, and where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.index import encoder_hash
from saga_ray.serve.backend import Item, Kind


class StoredEncoder:
    """See `Servable`."""

    takes: tuple[Kind, ...] = ("image",)

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.hash = folder, encoder_hash(folder)
        self.module = Encoder.load(folder).to(device)
        self.image_size = self.module.tower.image_size
        self.embedding_size = self.module.pooler.embedding_size
        self.patches = self.context = self.module.tower.tokens_per_image

    def length(self, item: Item) -> int:
        """See `Servable`."""
        return self.patches

    def compute(self, kind: Kind, images_BHWC: Tensor | None, texts: Sequence[str]) -> Tensor:
        """See `Servable`."""
        assert images_BHWC is not None, kind
        z_BE, beta_BN = self.module.pooler(self.module.tokens(images_BHWC))  # one pass gives both
        return torch.cat([z_BE, beta_BN], dim=1)
