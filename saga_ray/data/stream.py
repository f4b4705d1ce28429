"""The Ray Data stream: micro-batches of the plan, decoded and augmented by tasks on CPUs, in plan order.

Each training worker has a stream of its own share. What a micro-batch is, is its plan's affair: pairs of
labelled pictures (`stream`), or anything else that is planned (`Stream.of`). A thread of the worker walks
through the plan in chunks: one Ray Data data set a chunk, one row and one task a micro-batch, at most
`data.decode_tasks` at a time. It keeps a few micro-batches ready, so that neither decoding nor the start of
the next chunk is waited for. The picture column lies in Ray's object store once; rows carry row numbers.

Resuming is starting at another id: nothing is remembered between micro-batches.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

import numpy as np
import ray
import ray.data
from ray.exceptions import RayTaskError

from saga_ray.config.settings import DataSettings
from saga_ray.data.batches import StreamedBatch, assemble, decode_rows, local_stream
from saga_ray.data.decoding import Pixels
from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.plan import MicroBatch, Plan
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError

__all__ = ["Planned", "Stream", "StreamedBatch", "local_stream", "put_images", "stream"]

CHUNK = 32
"""Micro-batches a data set: bounds how far decoding runs ahead; starting a data set takes about 0.2 s."""
READY = 3
"""Micro-batches kept ready in the worker."""
TASK_CPUS = 0.5
"""Logical CPUs that Ray keeps for a decoding task."""
WAIT_S = 300.0
"""Longest wait for a micro-batch, the start of Ray Data's workers included."""
CLOSE_S = 30.0
"""Longest wait for decoding to stop."""

Images: TypeAlias = "ray.ObjectRef[PictureColumn]"
Batch = TypeVar("Batch")
Batch_co = TypeVar("Batch_co", covariant=True)


class Planned(Protocol[Batch_co]):
    """One worker's share of a micro-batch before its pictures are there."""

    @property
    def id(self) -> int:
        """Counts the micro-batches."""

    @property
    def epoch(self) -> int:
        """Of its augmentation."""

    @property
    def rows(self) -> Sequence[int]:
        """Its pictures, rows of the picture column."""

    def assemble(self, images_BHWC: Pixels) -> Batch_co:
        """The share with its pictures, decoded and augmented, uint8 RGB."""


def put_images(images: ImageTable | PictureColumn) -> Images:
    """Store a picture column once for all workers and tasks; give the reference to `stream`."""
    column = images.images if isinstance(images, ImageTable) else images
    stored: Images = ray.put(column)
    return stored


def stream(
    table: ImageTable | Images,
    plan: Plan,
    settings: DataSettings,
    seed: int,
    *,
    rank: int = 0,
    world: int = 1,
    ids: Iterable[int] | None = None,
    start: int = 0,
    wait_s: float = WAIT_S,
) -> Stream[StreamedBatch]:
    """Stream worker `rank`'s share of the micro-batches `ids`, or of all from `start` on without end.

    `table` is the training part that `plan` was made for, or what `put_images` returned for it. Decoding
    begins at once.
    """
    images = put_images(table) if isinstance(table, ImageTable) else table

    def planned(id: int) -> _Pairs:
        return _Pairs(plan.micro_batch(id), rank, world)

    return Stream.of(planned, images, settings, seed, rank=rank, ids=ids, start=start, wait_s=wait_s)


@dataclass(frozen=True)
class _Pairs:
    """A worker's share of a micro-batch of pairs."""

    batch: MicroBatch
    rank: int
    world: int

    @property
    def id(self) -> int:
        return self.batch.id

    @property
    def epoch(self) -> int:
        return self.batch.epoch

    @property
    def rows(self) -> Sequence[int]:
        return self.batch.share(self.rank, self.world).rows

    def assemble(self, images_BHWC: Pixels) -> StreamedBatch:
        return assemble(self.batch, images_BHWC, self.rank, self.world)


class Stream(Iterator[Batch]):
    """An iterator over micro-batches; `close`, or losing the last reference to it, stops the decoding.

    Raises UserError where a micro-batch takes longer than the limit or a picture can no longer be read.
    """

    @classmethod
    def of(
        cls,
        planned: Callable[[int], Planned[Batch]],
        images: Images,
        settings: DataSettings,
        seed: int,
        *,
        rank: int = 0,
        ids: Iterable[int] | None = None,
        start: int = 0,
        wait_s: float = WAIT_S,
    ) -> Stream[Batch]:
        """The micro-batches `ids`, or all from `start` on without end, of any plan."""
        producer = _Producer(images, planned, settings, seed)
        return cls(producer, rank, None if ids is None else list(ids), start, wait_s)

    def __init__(
        self, producer: _Producer[Batch], rank: int, ids: Sequence[int] | None, start: int, wait_s: float
    ) -> None:
        self._rank = rank
        self._wait_s = wait_s
        self._expected = count(start) if ids is None else iter(ids)
        self._ready: queue.Queue[Batch | _End] = queue.Queue(maxsize=READY)
        stop = threading.Event()
        # the thread must not hold the stream itself, or a stream that was dropped would never be stopped
        self._stop = weakref.finalize(self, stop.set)
        todo = count(start) if ids is None else iter(ids)
        self._thread = threading.Thread(
            target=producer.run, args=(todo, self._ready, stop), name="data-stream", daemon=True
        )
        self._thread.start()

    def __next__(self) -> Batch:
        try:
            item = self._ready.get(timeout=self._wait_s)
        except queue.Empty:
            raise UserError(
                f"micro-batch {next(self._expected)} did not come out of the data stream of worker "
                f"{self._rank} in {self._wait_s:g} s; a decoding task needs {TASK_CPUS:g} logical CPUs, the "
                f"cluster has {_free_cpus():g} free: give it more CPUs, or workers and actors fewer"
            ) from None
        if isinstance(item, _End):
            # whoever asks again gets the same answer
            self._ready.put(item)
            raise item.error or StopIteration
        next(self._expected)
        return item

    def close(self) -> None:
        """Stop decoding, and wait until Ray's tasks are given up."""
        self._stop()
        self._thread.join(CLOSE_S)


@dataclass(frozen=True)
class _End:
    """The last thing that a producer hands over: all ids are done, or what went wrong."""

    error: Exception | None = None


@dataclass(frozen=True)
class _Producer(Generic[Batch]):
    """Runs in a thread: walks through ids, chunk by chunk."""

    images: Images
    planned: Callable[[int], Planned[Batch]]
    settings: DataSettings
    seed: int

    def run(self, ids: Iterable[int], ready: queue.Queue[Batch | _End], stop: threading.Event) -> None:
        """Fill `ready` until the ids end, something fails or `stop` is set."""
        last = _End()
        try:
            for batch in self._batches(ids, stop):
                _put(ready, batch, stop)
        except RayTaskError as error:
            # Ray appends advice on retries to the message; a UserError is one sentence
            cause = error.cause
            last = _End(UserError(str(cause).splitlines()[0]) if isinstance(cause, UserError) else error)
        # whatever it is, the reader must learn of it, or it would wait for its limit
        except Exception as error:
            last = _End(error)
        _put(ready, last, stop)

    def _batches(self, ids: Iterable[int], stop: threading.Event) -> Iterator[Batch]:
        unread = iter(ids)
        while not stop.is_set() and (chunk := [self.planned(id) for id in islice(unread, CHUNK)]):
            decoded = self._dataset(chunk).iter_batches(
                batch_size=1, prefetch_batches=1, batch_format="numpy"
            )
            for batch, row in zip(chunk, decoded, strict=True):
                assert int(row["id"][0]) == batch.id, "Ray Data changed the order"
                if stop.is_set():
                    # A chunk is always read to its end: Ray aborts the process where a task that is being
                    # cancelled completes at the same moment.
                    continue
                # what Ray hands out lies in shared memory and may not be written to
                yield batch.assemble(np.array(row["images"][0]))

    def _dataset(self, chunk: Sequence[Planned[Batch]]) -> ray.data.Dataset:
        # Ray would say of every chunk that it began and ended, and once that its progress bars are off
        logging.getLogger("ray.data").setLevel(logging.WARNING)
        logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)
        items = [{"id": each.id, "epoch": each.epoch, "rows": list(each.rows)} for each in chunk]
        dataset = ray.data.from_items(items, override_num_blocks=len(items))
        # the data set's own context: other data sets of this process keep theirs
        dataset.context.execution_options.preserve_order = True
        dataset.context.enable_progress_bars = False
        dataset.context.print_on_execution_start = False
        dataset.context.raise_original_map_exception = True
        return dataset.map(
            _decode,  # type: ignore[arg-type]  # Ray's stub leaves out what fn_args adds
            fn_args=[self.images, self.seed, self.settings],
            num_cpus=TASK_CPUS,
            compute=ray.data.TaskPoolStrategy(size=self.settings.decode_tasks),
        )


def _decode(row: dict[str, Any], images: Images, seed: int, settings: DataSettings) -> dict[str, Any]:
    """The task: decode and augment one micro-batch."""
    rows = [int(number) for number in row["rows"]]
    return {"id": row["id"], "images": decode_rows(ray.get(images), rows, row["epoch"], seed, settings)}


def _free_cpus() -> float:
    free: dict[str, float] = ray.available_resources()  # type: ignore[no-untyped-call]
    return free.get("CPU", 0.0)


def _put(ready: queue.Queue[Batch | _End], item: Batch | _End, stop: threading.Event) -> bool:
    """Hand an item over as soon as there is room; False once the stream is closed."""
    while not stop.is_set():
        try:
            ready.put(item, timeout=0.2)
        except queue.Full:
            continue
        return True
    return False
