"""Which examples are in which batch of a stage: a pure function of seed and batch, the same for all workers.

Every epoch deals all examples once, in an order of its own; batches follow one another through the epochs, so
that none is smaller than the others. A worker's share is a run of its batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from saga_ray.composed.examples import Captioned, Triplet
from saga_ray.data.decoding import Pixels
from saga_ray.data.seeds import generator

Example = TypeVar("Example", Captioned, Triplet)


def shown(example: Captioned | Triplet) -> int:
    """The row of an example's own picture."""
    return example.picture if isinstance(example, Captioned) else example.reference


@dataclass(frozen=True, eq=False)
class StageBatch(Generic[Example]):
    """One batch as one worker sees it: its own pictures, and what all examples say."""

    own: Sequence[Example]
    everything: Sequence[Example]
    """Of the whole batch, in rank order."""
    rows: Sequence[int]
    """The own examples' pictures, each once: rows of the picture column."""
    images_BHWC: Pixels
    """These pictures."""
    targets: Sequence[int]
    """The row of the target picture that was drawn for each of the own examples; empty where none is asked
    for."""


@dataclass(frozen=True, eq=False)
class PlannedStageBatch(Generic[Example]):
    """The same before its pictures are there (see `saga_ray.data.stream.Planned`)."""

    id: int
    own: Sequence[Example]
    everything: Sequence[Example]
    targets: Sequence[int]
    epoch: int = 0
    """Nothing is augmented: an instruction may be about what that would change."""

    @cached_property
    def rows(self) -> Sequence[int]:
        """See `StageBatch`."""
        return list(dict.fromkeys([*map(shown, self.own), *self.targets]))

    def assemble(self, images_BHWC: Pixels) -> StageBatch[Example]:
        """The batch with its pictures."""
        return StageBatch(self.own, self.everything, self.rows, images_BHWC, self.targets)


@dataclass(frozen=True, eq=False)
class StagePlan(Generic[Example]):
    """The batches of a stage; `images`: with a target picture for each triplet."""

    examples: Sequence[Example]
    stage: str
    batch: int
    seed: int
    images: bool

    def planned(self, id: int, rank: int, world: int) -> PlannedStageBatch[Example]:
        """Worker `rank`'s share of a batch; `world` workers divide it."""
        places = range(id * self.batch, (id + 1) * self.batch)
        everything = [self.examples[self._example(place)] for place in places]
        share = self.batch // world
        own = slice(rank * share, (rank + 1) * share)
        targets = [
            self._target(place, each) for place, each in zip(places[own], everything[own], strict=True)
        ]
        return PlannedStageBatch(id, everything[own], everything, [row for row in targets if row is not None])

    def _example(self, place: int) -> int:
        epoch, number = divmod(place, len(self.examples))
        return int(_order(len(self.examples), self.stage, self.seed, epoch)[number])

    def _target(self, place: int, example: Example) -> int | None:
        if not self.images or isinstance(example, Captioned):
            return None
        drawn = generator(self.seed, "target", self.stage, place).integers(len(example.targets))
        return example.targets[int(drawn)]


@lru_cache(maxsize=4)
def _order(examples: int, stage: str, seed: int, epoch: int) -> NDArray[np.int64]:
    return generator(seed, "examples", stage, epoch).permutation(examples)
