"""A rollout actor: one engine in a Ray actor, driven by a thread, that tells each run's collector what it has
finished."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError

from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine, Finished, PairRequest
from saga_ray.rollout.loop import EngineLoop

TELL_TIMEOUT_S = 10.0
LOOK_EVERY_S = 5.0
"""Between two looks whether a run's collector lives: what a dead run asked for is cancelled after this."""


@dataclass(frozen=True)
class _Desk:
    """Where a run's collector is told."""

    collector: Any
    left: threading.Event = field(default_factory=threading.Event)


class EngineActor:
    """Restarts as a whole when its engine fails: a process whose engine has died is of no use, and half-dead
    GPUs hide in it.

    Runs may share it: each run's collector opens a desk, named by itself.
    """

    def __init__(self, index: int, most: int, build: Callable[[], Engine]) -> None:
        """`most`: completions at the same time."""
        self.index = index
        self._desks: dict[str, _Desk] = {}
        self._left: set[str] = set()
        self._opened = threading.Condition()
        self._refusal: UserError | None = None
        try:
            engine = build()
        except UserError as error:
            self._refusal = error  # raised by `about`: out of a constructor it would come wrapped by Ray
            return
        self.name, self.version = engine.name, engine.version
        self.loop = EngineLoop(engine, most, self._deliver, self._refuse, self._died)

    def about(self) -> tuple[str, str]:
        """The engine's name and version; answers once the engine is ready."""
        if self._refusal is not None:
            raise self._refusal
        return self.name, self.version

    def submit(self, desk: str, tickets: list[int], *requests: PairRequest) -> None:
        self.loop.submit(desk, tickets, requests)

    def abort(self, desk: str, tickets: list[int]) -> None:
        self.loop.abort(desk, tickets)

    def serve(self, desk: str, collector: Any) -> None:
        """Report to a collector until its desk is left or it dies; who waits for this learns at once of the
        actor's own death."""
        opened = _Desk(collector)
        with self._opened:
            self._desks[desk] = opened
            self._opened.notify_all()
        while not opened.left.wait(LOOK_EVERY_S):
            if not _alive(collector):
                self.leave(desk)

    def leave(self, desk: str) -> None:
        """The run is over: forget what it asked for."""
        self.loop.leave(desk)
        with self._opened:
            closed = self._desks.pop(desk, None)
            self._left.add(desk)
        if closed is not None:
            closed.left.set()

    def close(self) -> None:
        """Close the engine; the actor is of no use afterwards."""
        if self._refusal is None:
            self.loop.close()

    def desks(self) -> list[str]:
        """Of the runs that this actor works for."""
        return list(self._desks)

    def _deliver(self, name: str, finished: list[Finished]) -> None:
        desk = self._desk(name)
        if desk is not None:
            desk.collector.deliver.remote(self.index, finished)

    def _refuse(self, name: str, ticket: int, sentence: str) -> None:
        desk = self._desk(name)
        if desk is not None:
            desk.collector.refuse.remote(ticket, sentence)

    def _desk(self, name: str) -> _Desk | None:
        """Requests may be here before the call that opens their desk; none where it was left."""
        with self._opened:
            self._opened.wait_for(lambda: name in self._desks or name in self._left)
            return self._desks.get(name)

    def _died(self, trace: str) -> None:
        told = [desk.collector.last_words.remote(self.index, trace) for desk in list(self._desks.values())]
        try:
            ray.wait(told, num_returns=len(told), timeout=TELL_TIMEOUT_S)
        finally:
            os._exit(1)


def _alive(collector: Any) -> bool:
    try:
        ray.get(collector.__ray_ready__.remote(), timeout=TELL_TIMEOUT_S)
    except (ActorUnavailableError, GetTimeoutError):
        return True  # out of reach for a moment, or busy
    except RayActorError:
        return False
    return True
