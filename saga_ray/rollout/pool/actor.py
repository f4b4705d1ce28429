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

    def __init__(self, index: int, build: Callable[[], Engine]) -> None:
        self.index = index
        self.collector: Any = None
        self._collector_known = threading.Event()
        self._refusal: UserError | None = None
        try:
            engine = build()
        except UserError as error:
            self._refusal = error  # raised by `about`: out of a constructor it would come wrapped by Ray
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

    def serve(self, collector: Any) -> None:
        """Report to a collector; never returns, so who waits for it learns at once of the actor's death."""
        self.collector = collector
        self._collector_known.set()
        threading.Event().wait()

    def _deliver(self, finished: list[Finished]) -> None:
        self._collector_known.wait()
        self.collector.deliver.remote(self.index, finished)

    def _refuse(self, ticket: int, sentence: str) -> None:
        self._collector_known.wait()
        self.collector.refuse.remote(ticket, sentence)

    def _died(self, trace: str) -> None:
        self._collector_known.wait()
        try:
            ray.get(self.collector.last_words.remote(self.index, trace), timeout=TELL_TIMEOUT_S)
        finally:
            os._exit(1)
