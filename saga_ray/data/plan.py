"""The global plan: which pictures are in which micro-batch, and which of them make pairs.

The plan is a pure function of (seed, id), so that every worker, a resumed run and an arm that repeats another
arm's micro-batches all see the same. A micro-batch is P classes x M pictures. Its classes are dealt into
blocks and no pair crosses two blocks: a worker that holds whole blocks holds both pictures of its pairs, for
any number of workers that divides the number of blocks.

An epoch deals every class once at most: floor(C / P) micro-batches; the C mod P classes that are left over
sit out in turn (see `saga_ray.data.rotation`), and the pictures of a class take turns in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from saga_ray.config.settings import DataSettings
from saga_ray.data.hard import deal, gather
from saga_ray.data.pairs import PlannedPair, draw_pairs
from saga_ray.data.rotation import Rotation
from saga_ray.data.seeds import generator
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError

__all__ = ["MicroBatch", "MicroBatchShare", "Plan", "PlannedPair", "SharedPair", "plan_for"]


@dataclass(frozen=True)
class SharedPair:
    """A pair of one worker's share: `a_local`, `b_local` are positions among the worker's own pictures."""

    index: int
    a_local: int
    b_local: int
    same: bool
    block: int


@dataclass(frozen=True)
class MicroBatchShare:
    """What one worker gets: pictures `start` to `stop` (exclusive) of the micro-batch, and their pairs."""

    id: int
    epoch: int
    start: int
    stop: int
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    pairs: tuple[SharedPair, ...]


@dataclass(frozen=True)
class MicroBatch:
    """Pictures block by block and class by class, and their pairs in plan order."""

    id: int
    """Counts through all epochs."""
    epoch: int
    rows: tuple[int, ...]
    """Rows of the table that the plan was made for."""
    labels: tuple[int, ...]
    pairs: tuple[PlannedPair, ...]
    """Blocks and same/different take turns, so that any first K pairs are spread over workers and balanced.
    """
    blocks: int
    hard_missing: int
    """Hard different pairs that were asked for but did not exist, and were drawn at random instead."""

    def share(self, rank: int, world: int) -> MicroBatchShare:
        """The part of worker `rank` of `world`; `world` must divide the number of blocks."""
        assert 0 <= rank < world and self.blocks % world == 0, (
            f"worker {rank} of {world}, {self.blocks} blocks"
        )
        size = len(self.rows) // world
        start, stop = rank * size, (rank + 1) * size
        pairs = tuple(
            SharedPair(pair.index, pair.a - start, pair.b - start, pair.same, pair.block)
            for pair in self.pairs
            if start <= pair.a < stop
        )
        return MicroBatchShare(
            self.id, self.epoch, start, stop, self.rows[start:stop], self.labels[start:stop], pairs
        )


class Plan:
    """Micro-batches by id, for ever.

    `labels_N` are the class of every row of the training part; `hard_groups` says for every class which
    classes are hard to tell from it (equal text; empty: none); `classes` are names for messages. Raises
    UserError where the settings ask for more than the data has.
    """

    def __init__(
        self,
        labels_N: NDArray[np.int64],
        settings: DataSettings,
        seed: int,
        hard_groups: Sequence[str] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        count = int(labels_N.max()) + 1 if len(labels_N) else 0
        self.settings = settings
        self.seed = seed
        self.hard_groups = (
            list(hard_groups) if hard_groups is not None and settings.hard_negative_share > 0 else None
        )
        self._rows_of = [np.flatnonzero(labels_N == label) for label in range(count)]
        self._check(classes or [str(label) for label in range(count)])
        self._classes = Rotation(count, settings.classes_per_batch, (seed, "classes"))

    @property
    def micro_batches_per_epoch(self) -> int:
        """Micro-batches until classes are used again."""
        return self._classes.hands

    def micro_batch(self, id: int) -> MicroBatch:
        """The micro-batch of this number, from 0."""
        epoch, turn = divmod(id, self.micro_batches_per_epoch)
        size = self.settings.classes_per_batch
        order = [int(label) for label in self._classes.order(epoch)]
        if self.hard_groups is not None:
            order = gather(order, self.hard_groups, generator(self.seed, "gather", epoch))
        chosen = order[turn * size : (turn + 1) * size]
        if self.hard_groups is not None:
            chosen = deal(chosen, self.hard_groups, self.settings.blocks)
        uses = self._classes.draws_before(epoch)
        rows = tuple(row for label in chosen for row in self._pictures(label, int(uses[label])))
        per_class = self.settings.images_per_class
        labels = tuple(label for label in chosen for _ in range(per_class))
        pairs, hard_missing = draw_pairs(
            labels, self.settings, self.hard_groups, generator(self.seed, "pairs", id)
        )
        return MicroBatch(id, epoch, rows, labels, pairs, self.settings.blocks, hard_missing)

    def _pictures(self, label: int, use: int) -> list[int]:
        rows = self._rows_of[label]
        hand = Rotation(len(rows), self.settings.images_per_class, (self.seed, "pictures", label)).hand(use)
        return [int(row) for row in rows[hand]]

    def _check(self, classes: Sequence[str]) -> None:
        settings, count = self.settings, len(self._rows_of)
        assert settings.classes_per_batch % settings.blocks == 0, "blocks must divide classes_per_batch"
        assert settings.pairs_per_batch % (2 * settings.blocks) == 0, (
            "pairs must split evenly over blocks and kinds"
        )
        if count == 0:
            raise UserError("there are no training pictures; is the split column right?")
        if count == 1:
            raise UserError(
                f"all training pictures are of one class, {classes[0]!r}; at least two are needed"
            )
        if count < settings.classes_per_batch:
            raise UserError(
                f"data.classes_per_batch={settings.classes_per_batch} asks for more classes than the {count} "
                f"to train on; lower it to {count} at most"
            )
        small = [label for label, rows in enumerate(self._rows_of) if len(rows) < settings.images_per_class]
        if small:
            raise UserError(
                f"data.images_per_class={settings.images_per_class} asks for more pictures than class "
                f"{classes[small[0]]!r} has ({len(self._rows_of[small[0]])}); {len(small)} of {count} "
                f"training classes are too small: lower it, add pictures or take these classes out"
            )
        classes_per_block = settings.classes_per_batch // settings.blocks
        half = settings.pairs_per_batch // (2 * settings.blocks)
        per_class = settings.images_per_class
        same = classes_per_block * per_class * (per_class - 1) // 2
        different = classes_per_block * (classes_per_block - 1) // 2 * per_class**2
        for kind, exist in (("same", same), ("different", different)):
            if half > exist:
                raise UserError(
                    f"data.pairs_per_batch={settings.pairs_per_batch} asks for {half} {kind}-class pairs in "
                    f"each of {settings.blocks} blocks, but {classes_per_block} classes x {per_class} "
                    f"pictures make {exist}; lower it to {2 * settings.blocks * min(same, different)} at most"
                )


def plan_for(train: ImageTable, settings: DataSettings, seed: int) -> Plan:
    """The plan for a table's training part, with its class names and hard negative column."""
    column = settings.hard_negative_column
    groups = None
    if settings.hard_negative_share > 0 and column is not None:
        if column not in train.attributes:
            raise UserError(
                f"data.hard_negative_column={column!r} is no attribute column of {train.name}; "
                f"it has {', '.join(train.attributes) or 'none'}"
            )
        _, first_rows = np.unique(train.labels, return_index=True)
        groups = [train.attributes[column][row] for row in first_rows]
    return Plan(train.labels, settings, seed, groups, train.classes)
