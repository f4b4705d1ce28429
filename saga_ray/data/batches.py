"""From plan to pixels in this process; the Ray Data stream must equal `local_stream`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from saga_ray.config.settings import DataSettings
from saga_ray.data.decoding import Pixels
from saga_ray.data.pairs import PlannedPair
from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.plan import MicroBatch, Plan, SharedPair
from saga_ray.data.table import ImageTable
from saga_ray.data.transforms import augment, augmentation_rng
from saga_ray.errors import UserError


@dataclass(frozen=True, eq=False)
class StreamedBatch:
    """One micro-batch as one worker sees it: its own pictures, and the plan of the whole."""

    id: int
    epoch: int
    images_BHWC: Pixels
    """Own share, augmented, uint8 RGB; B = stop - start."""
    labels_B: NDArray[np.int64]
    rows_B: NDArray[np.int64]
    """Rows of the training part's table."""
    start: int
    """Own share's first position in the micro-batch."""
    stop: int
    labels_all: NDArray[np.int64]
    """Of the whole micro-batch."""
    pairs: tuple[SharedPair, ...]
    """Own share, in plan order."""
    all_pairs: tuple[PlannedPair, ...]
    """Of the whole micro-batch, in plan order."""
    hard_missing: int


def decode_rows(
    images: PictureColumn, rows: Sequence[int], epoch: int, seed: int, settings: DataSettings
) -> Pixels:
    """Decode and augment rows of a picture column: B x H x W x RGB.

    Raises UserError for a picture that could be read when the data set was loaded and no longer can.
    """
    # a crop keeps crop_scale of the area: large JPEGs are decoded no smaller than its pixels need
    size = math.ceil(settings.image_size / math.sqrt(settings.crop_scale))
    pixels = np.empty((len(rows), settings.image_size, settings.image_size, 3), dtype=np.uint8)
    for place, row in enumerate(rows):
        try:
            image_HWC = np.asarray(images.decode(row, size))
        # whatever reading and decoding raise (file systems, Pillow's decoders): the picture was whole before
        except Exception as error:
            source = images.source(row)
            name = source if isinstance(source, str) else f"the picture of training row {row}"
            raise UserError(f"{name} could be read when the run began and no longer can: {error}") from error
        pixels[place] = augment(image_HWC, augmentation_rng(seed, epoch, row), settings)
    return pixels


def assemble(batch: MicroBatch, images_BHWC: Pixels, rank: int, world: int) -> StreamedBatch:
    """Put a worker's pictures and the plan together."""
    share = batch.share(rank, world)
    return StreamedBatch(
        id=batch.id,
        epoch=batch.epoch,
        images_BHWC=images_BHWC,
        labels_B=np.array(share.labels, dtype=np.int64),
        rows_B=np.array(share.rows, dtype=np.int64),
        start=share.start,
        stop=share.stop,
        labels_all=np.array(batch.labels, dtype=np.int64),
        pairs=share.pairs,
        all_pairs=batch.pairs,
        hard_missing=batch.hard_missing,
    )


def local_stream(
    table: ImageTable,
    plan: Plan,
    settings: DataSettings,
    seed: int,
    *,
    rank: int = 0,
    world: int = 1,
    ids: Iterable[int] | None = None,
    start: int = 0,
) -> Iterator[StreamedBatch]:
    """The same micro-batches as `saga_ray.data.stream.stream`, decoded in this process when asked for."""
    for id in count(start) if ids is None else ids:
        batch = plan.micro_batch(id)
        share = batch.share(rank, world)
        yield assemble(batch, decode_rows(table.images, share.rows, batch.epoch, seed, settings), rank, world)
