"""An engine that several runs share: turns, limits, and whose tickets are whose."""

from __future__ import annotations

import threading
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.rollout.engine import Finished, PairRequest
from saga_ray.rollout.loop import EngineLoop
from saga_ray.rollout.turns import Turns
from tests.rollout.scripted import GROUP, answers, requests

LIMIT_S = 20


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30))
def test_keys_take_turns_and_each_keeps_its_order(items: list[tuple[int, int]]) -> None:
    turns: Turns[int, int] = Turns()
    queues: dict[int, deque[int]] = {}
    for key, item in items:
        turns.put(key, item)
        queues.setdefault(key, deque()).append(item)
    taken = []
    while turns:
        peeked = turns.peek()
        taken.append(turns.take())
        assert taken[-1] == peeked
    order = list(queues)
    expected = []
    while order:
        key = order.pop(0)
        expected.append((key, queues[key].popleft()))
        order += [key] if queues[key] else []
    assert taken == expected


def test_dropped_items_are_not_taken() -> None:
    turns: Turns[str, int] = Turns()
    for item in range(4):
        turns.put("a", item)
        turns.put("b", item)
    turns.drop("a", lambda item: item % 2 == 0)
    turns.drop("b")
    turns.drop("c")
    assert [turns.take() for _ in range(2)] == [("a", 1), ("a", 3)] and not turns


class OneByOne:
    """Finishes one group a step, the oldest; notes what it was given and how much at a time."""

    name, version = "one by one", "1"

    def __init__(self) -> None:
        self.groups: dict[int, PairRequest] = {}
        self.order: list[tuple[int, int]] = []
        self.most = 0
        self.go = threading.Event()
        self.closed_in = ""

    def submit(self, ticket: int, request: PairRequest) -> None:
        self.groups[ticket] = request
        self.order.append((request.step, request.pair))
        self.most = max(self.most, sum(len(each.seeds) for each in self.groups.values()))

    @property
    def idle(self) -> bool:
        return not self.groups

    def abort(self, ticket: int) -> None:
        self.groups.pop(ticket, None)

    def step(self) -> list[Finished]:
        self.go.wait(LIMIT_S)
        if not self.groups:
            return []
        ticket = next(iter(self.groups))
        return [Finished(ticket, answers(self.groups.pop(ticket)))]

    def close(self) -> None:
        self.groups.clear()
        self.closed_in = threading.current_thread().name


def test_a_run_with_much_to_ask_does_not_keep_the_others_waiting() -> None:
    engine, found, ended = OneByOne(), [], threading.Event()

    def deliver(desk: str, finished: list[Finished]) -> None:
        found.extend((desk, ticket) for ticket, _ in finished)
        if len(found) == 8:
            ended.set()

    loop = EngineLoop(engine, 2 * GROUP, deliver, lambda desk, ticket, why: None, lambda trace: None)
    # The same tickets at three desks; the desk's number stands as the requests' step.
    loop.submit("0", range(10), requests(0, 0, range(10)))
    loop.submit("1", range(2), requests(1, 0, range(2)))
    loop.submit("2", range(2), requests(2, 0, range(2)))
    loop.abort("0", [4, 5, 6, 7, 8, 9])
    engine.go.set()
    assert ended.wait(LIMIT_S)
    # Two groups fit at a time. The first two were in before the others asked, or the desks began at once.
    assert engine.most == 2 * GROUP
    assert sorted(found) == [*(("0", n) for n in range(4)), ("1", 0), ("1", 1), ("2", 0), ("2", 1)]
    assert engine.order.index((2, 0)) < engine.order.index((0, 3))


def test_a_group_larger_than_the_limit_is_let_in_alone_and_who_leaves_is_forgotten() -> None:
    engine, found, ended = OneByOne(), [], threading.Event()

    def deliver(desk: str, finished: list[Finished]) -> None:
        found.extend((desk, ticket) for ticket, _ in finished)
        ended.set()

    loop = EngineLoop(engine, 1, deliver, lambda desk, ticket, why: None, lambda trace: None)
    loop.submit("gone", [1, 2], requests(0, 0, [1, 2]))
    loop.leave("gone")
    loop.submit("here", [1], requests(1, 0, [7]))
    engine.go.set()
    assert ended.wait(LIMIT_S)
    assert ("here", 1) in found and ("gone", 2) not in found


@pytest.mark.parametrize("asked", [0, 3])
def test_an_engine_is_closed_between_two_steps_whatever_is_under_way(asked: int) -> None:
    engine, died = OneByOne(), threading.Event()
    loop = EngineLoop(engine, GROUP, lambda *found: None, lambda *refused: None, lambda trace: died.set())
    loop.submit("here", range(asked), requests(0, 0, range(asked)))
    engine.go.set()
    loop.close()
    assert engine.closed_in == "engine" and engine.idle and not died.is_set()
