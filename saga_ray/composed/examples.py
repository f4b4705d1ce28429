"""What the two stages learn from: pictures, captions and triplets; a source makes them, a plan deals them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saga_ray.data.picture_column import PictureColumn


@dataclass(frozen=True)
class Captioned:
    """Stage 1: a picture and what it shows."""

    picture: int
    """Row of the picture column."""
    caption: str


@dataclass(frozen=True)
class Triplet:
    """Stage 2: a reference picture, an instruction, and what the picture would be after it.

    `caption` and `modified` are the captions before and after, both or neither; `targets` are pictures of
    what is asked for, any of which is right. One of the two is there.
    """

    reference: int
    instruction: str
    caption: str = ""
    modified: str = ""
    targets: tuple[int, ...] = ()
    shows: str = ""
    """Names what the reference shows, such as model and colour; two of a batch with the same name are not
    held against each other. None: nothing else shows the same."""
    asks: str = ""
    """The same of what is asked for."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """A source's part to train on."""

    name: str
    pictures: PictureColumn
    captioned: Sequence[Captioned]
    triplets: Sequence[Triplet]
    hash: str
    """Of pictures and texts."""
    note: str = ""
    """What a reader of results must know of the data, a sentence."""
