"""What the HTTP layer asks of whatever computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from saga_ray.retrieval.index import Hit

Pixels = NDArray[np.uint8]
Numbers = NDArray[np.float32]
Kind = Literal["image", "text", "composed"]
KINDS: tuple[Kind, ...] = ("image", "text", "composed")
"""What can be embedded: a picture, a text, or a picture with an instruction."""


@dataclass(frozen=True, eq=False)
class Item:
    """One thing to embed; it has a picture, a text (an instruction, beside a picture), or both."""

    image_HWC: Pixels | None = None
    text: str | None = None

    @property
    def kind(self) -> Kind:
        """Which of the three it is."""
        if self.image_HWC is None:
            return "text"
        return "image" if self.text is None else "composed"


@dataclass(frozen=True, eq=False)
class Embedded:
    """What a model made of items."""

    z_BE: Numbers
    """L2-normalised, in the order of the items."""
    tokens: int
    """That the model read for all of them: patches of pictures, and words."""


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
    takes: tuple[Kind, ...]
    image_size: int
    embedding_size: int
    attention: bool
    """Whether it can say where it looked."""
    index: IndexCard | None


class Refusal(Exception):
    """A call that cannot be answered, and no failure of the backend."""


class Full(Refusal):
    """There is too much in the queue to take this too."""


class WrongSize(Refusal):
    """The pictures are not of the size that the model reads: it was replaced since they were decoded."""

    def __init__(self, image_size: int) -> None:
        super().__init__(image_size)
        self.image_size = image_size


class NoIndex(Refusal):
    """There is nothing to search in."""


class NotTaken(Refusal):
    """The model embeds no items of this kind."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(kind)
        self.kind = kind


class NoAttention(Refusal):
    """The model cannot say where it looked."""


class BadText(Refusal):
    """The text of the item at this place cannot be read; the reason completes a sentence about it."""

    def __init__(self, place: int, reason: str) -> None:
        super().__init__(place, reason)
        self.place, self.reason = place, reason


class Backend(Protocol):
    """A model, perhaps with an index. Every call may raise `Full`; those with items `WrongSize`, `NotTaken`
    and `BadText`; those about the index `NoIndex`.
    """

    async def card(self) -> Card:
        """What is being served just now; waits until something is."""
        ...

    async def embed(self, items: Sequence[Item]) -> Embedded:
        """Embeddings of items, which may be of several kinds."""
        ...

    async def attention(self, items: Sequence[Item]) -> Numbers:
        """The pooler's attention beta_BN over the patches of pictures, from the top left; sums to 1. Raises
        `NoAttention` where the model has none.
        """
        ...

    async def search(self, items: Sequence[Item], k: int) -> list[list[Hit]]:
        """The k nearest rows of the index to each item."""
        ...

    async def neighbours(self, id: str, k: int) -> list[Hit] | None:
        """The k rows nearest to a row of the index, without itself; none where there is no such row."""
        ...

    async def thumbnail(self, id: str) -> bytes | None:
        """A row's small picture (JPEG); none where there is none."""
        ...
