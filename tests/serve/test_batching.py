"""Batches hold what fits, answers go to who asked, nobody waits without need, and the queue has an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.serve.backend import Full, Numbers
from saga_ray.serve.batching import Batcher


class Model:
    """Doubles numbers; can be held up."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.seen: list[list[int]] = []

    def __call__(self, values: list[int]) -> Numbers:
        self.begun.set()
        self.go.wait(10)
        self.seen.append(values)
        if 255 in values:
            raise RuntimeError("the model fails")
        return np.array(values, dtype=np.float32)[:, None] * 2


def run(test: Callable[[Batcher[int], Model], Awaitable[None]], **options: Any) -> Model:
    async def whole() -> Model:
        model = Model()
        batcher: Batcher[int] = Batcher(model, **{"most": 4, "wait_s": 0.0, "waiting": 100, **options})
        try:
            await asyncio.wait_for(test(batcher, model), 10)
        finally:
            model.go.set()
            await batcher.close()
        return model

    return asyncio.run(whole())


async def hold(batcher: Batcher[int], model: Model) -> asyncio.Task[Numbers]:
    """Keep the model busy with item 0."""
    model.go.clear()
    busy = asyncio.create_task(batcher([0]))
    while not model.begun.is_set():
        await asyncio.sleep(0.001)
    return busy


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), most=st.integers(1, 6))
def test_everyone_gets_the_results_of_their_own_items(sizes: list[int], most: int) -> None:
    ends = np.cumsum(sizes)
    requests = [list(range(end - size, end)) for end, size in zip(ends, sizes, strict=True)]

    async def test(batcher: Batcher[int], model: Model) -> None:
        answers = await asyncio.gather(*(batcher(request) for request in requests))
        for request, answer in zip(requests, answers, strict=True):
            assert answer[:, 0].tolist() == [2 * value for value in request]

    model = run(test, most=most, waiting=1000)
    assert all(len(batch) <= most for batch in model.seen)
    # in the order in which they came: none overtakes
    assert [value for batch in model.seen for value in batch] == list(range(ends[-1]))


def test_while_the_model_works_the_next_batch_gathers() -> None:
    async def test(batcher: Batcher[int], model: Model) -> None:
        busy = await hold(batcher, model)
        waiting = [asyncio.create_task(batcher([value])) for value in range(1, 7)]
        await asyncio.sleep(0.01)
        model.go.set()
        await asyncio.gather(busy, *waiting)

    assert run(test, most=4).seen == [[0], [1, 2, 3, 4], [5, 6]]


def test_an_item_waits_for_others_but_not_for_long() -> None:
    async def test(batcher: Batcher[int], model: Model) -> None:
        began = asyncio.get_running_loop().time()
        first = asyncio.create_task(batcher([1]))
        await asyncio.sleep(0.05)
        assert not first.done()
        await asyncio.gather(first, batcher([2]))
        waited = asyncio.get_running_loop().time() - began
        assert 0.2 <= waited < 2
        began = asyncio.get_running_loop().time()
        await batcher([3, 4, 5, 6])  # full at once
        assert asyncio.get_running_loop().time() - began < 0.15

    assert run(test, most=4, wait_s=0.2).seen == [[1, 2], [3, 4, 5, 6]]


def test_a_full_queue_refuses_at_once() -> None:
    async def test(batcher: Batcher[int], model: Model) -> None:
        busy = await hold(batcher, model)
        waiting = asyncio.create_task(batcher([1, 2, 3]))
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher([4, 5])
        fits = asyncio.create_task(batcher([4]))
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.gather(busy, waiting, fits)

    assert run(test, waiting=4).seen == [[0], [1, 2, 3, 4]]


def test_who_has_gone_is_not_computed_for() -> None:
    async def test(batcher: Batcher[int], model: Model) -> None:
        busy = await hold(batcher, model)
        gone = asyncio.create_task(batcher([1, 2]))
        stays = asyncio.create_task(batcher([3]))
        await asyncio.sleep(0.01)
        gone.cancel()
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.gather(busy, stays)

    assert run(test).seen == [[0], [3]]


def test_a_failing_batch_fails_its_requests_alone() -> None:
    async def test(batcher: Batcher[int], model: Model) -> None:
        busy = await hold(batcher, model)
        bad = [asyncio.create_task(batcher([value])) for value in (1, 255)]
        long = asyncio.create_task(batcher([2, 2, 2, 2, 2]))  # begins in the failing batch
        good = asyncio.create_task(batcher([3]))
        await asyncio.sleep(0.01)
        model.go.set()
        await busy
        for each in (*bad, long):
            with pytest.raises(RuntimeError, match="the model fails"):
                await each
        assert (await good).tolist() == [[6]]

    run(test)
