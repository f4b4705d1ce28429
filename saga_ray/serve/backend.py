"""What the HTTP layer asks of whatever computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.index import Hit

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]


@dataclass(frozen=True)
class IndexCard:
    """What a client may know of the index."""

    size: int
    kind: str


@dataclass(frozen=True)
class Card:
    """What a client may know of the model."""

    id: str
    hash: str
    image_size: int
    embedding_size: int
    tokens_per_image: int
    index: IndexCard | None


class Full(Exception):
    """There is too much in the queue to take this too."""


class WrongSize(Exception):
    """The pictures are not of the size that the model reads: it was replaced since they were decoded."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.image_size = image_size


class NoIndex(Exception):
    """There is nothing to search in."""


class Backend(Protocol):
    """An encoder, perhaps with an index. Every call may raise `Full`, those with pictures `WrongSize`, those
    about the index `NoIndex`.
    """

    async def card(self) -> Card:
        """What is being served just now; waits until something is."""
        ...

    async def embed(self, images_BHWC: Pixels) -> Numbers:
        """L2-normalised embeddings z_BE."""
        ...

    async def attention(self, images_BHWC: Pixels) -> Numbers:
        """The pooler's attention beta_BN over the patches, from the top left; sums to 1."""
        ...

    async def search(self, images_BHWC: Pixels, k: int) -> list[list[Hit]]:
        """The k nearest rows of the index to each picture."""
        ...

    async def neighbours(self, id: str, k: int) -> list[Hit] | None:
        """The k rows nearest to a row of the index, without itself; none where there is no such row."""
        ...

    async def thumbnail(self, id: str) -> bytes | None:
        """A row's small picture (JPEG); none where there is none."""
        ...
