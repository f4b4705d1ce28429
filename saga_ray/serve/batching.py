"""Gathers items of several requests into batches: a model works on many at hardly more cost than on one.

A batch starts when it is full, or when its first item has waited `wait_s` and the model is idle; while
the model works, the next batch gathers by itself. Requests are cut over batches where they do not fit, so no
request is too large and none overtakes another. (Ray Serve's own `serve.batch` lets later requests overtake,
refuses a request larger than a batch, and starts batches of requests whose clients have gone.)

Legend: B items of a request, R numbers that the model gives for an item.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np

from saga_ray.serve.backend import Full, Numbers

Thing = TypeVar("Thing")
"""What is computed with: nothing is known of it here."""


class _Request(Generic[Thing]):
    """Items that somebody waits for, and how many of them are already in a batch."""

    def __init__(self, items: Sequence[Thing], result: asyncio.Future[Numbers]) -> None:
        self.items, self.result = items, result
        self.taken = 0
        self.parts: list[Numbers] = []
        self.came = time.monotonic()

    def take(self, room: int) -> Sequence[Thing]:
        """The next items, as many as there is room for."""
        part = self.items[self.taken : self.taken + room]
        self.taken += len(part)
        return part

    def receive(self, part_BR: Numbers) -> None:
        """Results of the next items, in order."""
        self.parts.append(part_BR)
        if sum(map(len, self.parts)) == len(self.items) and not self.result.done():
            self.result.set_result(np.concatenate(self.parts))

    def fail(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)


class Batcher(Generic[Thing]):
    """Computes results_BR of items, in one thread and in the order of the requests."""

    def __init__(
        self,
        compute: Callable[[list[Thing]], Numbers],
        *,
        most: int,
        wait_s: float,
        waiting: int,
        count: Callable[[int], None] = lambda items: None,
    ) -> None:
        """`most` items in a batch, `waiting` items in the queue; `count` is told each batch's size."""
        self._compute, self._most, self._wait_s, self._limit = compute, most, wait_s, waiting
        self._count = count
        self._queue: deque[_Request[Thing]] = deque()
        self._waiting = 0
        self._came = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._thread: Executor = ThreadPoolExecutor(1, "model")

    async def __call__(self, items: Sequence[Thing]) -> Numbers:
        """Results of these items. Raises Full where the queue has no room for them."""
        if self._waiting + len(items) > self._limit and self._queue:
            raise Full
        loop = asyncio.get_running_loop()
        if self._worker is None or self._worker.done() or self._worker.get_loop() is not loop:
            self._came = asyncio.Event()  # as the worker, it belongs to one loop
            self._worker = loop.create_task(self._work())
        request = _Request(items, loop.create_future())
        self._queue.append(request)
        self._waiting += len(items)
        self._came.set()
        return await request.result

    async def close(self) -> None:
        """Stop; who waits is cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker
        for request in self._queue:
            request.result.cancel()
        self._thread.shutdown(wait=False)

    async def _work(self) -> None:
        """Batch after batch until nobody waits; the next request starts it again."""
        loop = asyncio.get_running_loop()
        while await self._gather():
            batch, items = self._next()
            self._count(len(items))
            try:
                results_BR = await loop.run_in_executor(self._thread, self._compute, items)
            except Exception as error:
                # The requests fail, each with the model's own error; the next batch may go well.
                for request, _ in batch:
                    request.fail(error)
                continue
            place = 0
            for request, count in batch:
                request.receive(results_BR[place : place + count])
                place += count

    async def _gather(self) -> bool:
        """Wait until there is a batch: full, or one that has waited long enough. False: nobody waits."""
        while True:
            self._drop_abandoned()
            if not self._queue:
                return False
            rest_s = self._queue[0].came + self._wait_s - time.monotonic()
            if self._waiting >= self._most or rest_s <= 0:
                return True
            self._came.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._came.wait(), rest_s)

    def _next(self) -> tuple[list[tuple[_Request[Thing], int]], list[Thing]]:
        """Take the next batch from the queue: (request, how many of its items), and the items."""
        batch: list[tuple[_Request[Thing], int]] = []
        items: list[Thing] = []
        room = self._most
        while room and self._queue:
            request = self._queue[0]
            part = request.take(room)
            batch.append((request, len(part)))
            items += part
            room -= len(part)
            self._waiting -= len(part)
            if request.taken == len(request.items):
                self._queue.popleft()
        return batch, items

    def _drop_abandoned(self) -> None:
        """Forget requests whose client has gone, or one of whose batches has failed."""
        if any(request.result.done() for request in self._queue):
            self._queue = deque(request for request in self._queue if not request.result.done())
            self._waiting = sum(len(each.items) - each.taken for each in self._queue)
