"""A rollout actor: one engine in a Ray actor, driven by a thread, that tells the collector what it has
finished."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import ray

from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine, Finished, PairRequest
from saga_ray.rollout.loop import EngineLoop

TELL_TIMEOUT_S = 10.0


class EngineActor:
    """Restarts as a whole when its engine fails: a process whose engine has died is of no use, and half-dead
    GPUs hide in it."""

    def __init__(self, index: int, build: Callable[[], Engine], collector: Any) -> None:
        self.index, self.collector = index, collector
        self._closed = threading.Event()
        self._refusal: UserError | None = None
        try:
            engine = build()
        except (
            UserError
        ) as error:  # raised by `about`, so that the sentence arrives without Ray's wrapping of constructors
            self._refusal = error
            return
        self.name, self.version = engine.name, engine.version
        self.loop = EngineLoop(engine, self._deliver, self._refuse, self._died)

    def about(self) -> tuple[str, str]:
        """The engine's name and version; answers once the engine is ready."""
        if self._refusal is not None:
            raise self._refusal
        return self.name, self.version

    def submit(self, tickets: list[int], *requests: PairRequest) -> None:
        self.loop.submit(tickets, requests)

    def abort(self, tickets: list[int]) -> None:
        self.loop.abort(tickets)

    def watch(self) -> None:
        """Returns when the actor is closed. Who waits for it learns of the actor's death at once."""
        self._closed.wait()

    def close(self) -> None:
        self.loop.close()
        self._closed.set()

    def _deliver(self, finished: list[Finished]) -> None:
        self.collector.deliver.remote(self.index, finished)

    def _refuse(self, ticket: int, sentence: str) -> None:
        self.collector.refuse.remote(ticket, sentence)

    def _died(self, trace: str) -> None:
        try:
            ray.get(self.collector.last_words.remote(self.index, trace), timeout=TELL_TIMEOUT_S)
        finally:
            os._exit(1)
