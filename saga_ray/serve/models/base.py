"""What serving asks of a model, of whichever kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from saga_ray.retrieval.model import Model
from saga_ray.serve.backend import Item, Kind

if TYPE_CHECKING:
    from torch import Tensor


class Servable(Model, Protocol):
    """A model on its device. Legend: B items, R numbers that it gives for one, E embedding, N patches."""

    @property
    def takes(self) -> tuple[Kind, ...]:
        """The kinds of item that it embeds; pictures always."""

    @property
    def embedding_size(self) -> int:
        """E."""

    @property
    def patches(self) -> int:
        """N, where it gives its attention over an image's patches; else 0."""

    @property
    def context(self) -> int:
        """The most tokens of an item."""

    def length(self, item: Item) -> int:
        """An item's tokens, those of its image included. Raises UserError for a text that cannot be one."""

    def compute(self, kind: Kind, images_BHWC: Tensor | None, texts: Sequence[str]) -> Tensor:
        """z_BE | beta_BN (R = E + N) of B items of one kind: uint8 images, where it has any, and texts."""
