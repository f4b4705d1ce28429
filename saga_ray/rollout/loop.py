"""An engine at work in a thread of its own: requests and cancellations come in as they like, finished groups
go out."""

from __future__ import annotations

import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from functools import partial

from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine, Finished, PairRequest


class EngineLoop:
    """Consumes tickets; produces finished groups through ``deliver``; waits for more to do while the engine
    is idle.

    ``refuse`` is told of a request that the engine did not take, with the sentence that says why. ``died``
    gets the traceback of any other failure, after which the loop is over. All three are called in the loop's
    thread, and only there is the engine touched.
    """

    def __init__(
        self,
        engine: Engine,
        deliver: Callable[[list[Finished]], None],
        refuse: Callable[[int, str], None],
        died: Callable[[str], None],
    ) -> None:
        self.engine, self.deliver, self.refuse, self.died = engine, deliver, refuse, died
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    def submit(self, tickets: Sequence[int], requests: Sequence[PairRequest]) -> None:
        """All of them enter the engine before its next step, so that a batch does not depend on the thread's
        luck."""
        self._inbox.put(partial(self._submit, list(tickets), list(requests)))

    def abort(self, tickets: Sequence[int]) -> None:
        self._inbox.put(partial(self._abort, list(tickets)))

    def _run(self) -> None:
        try:
            while True:
                while self.engine.idle or not self._inbox.empty():
                    self._inbox.get()()
                finished = self.engine.step()
                if finished:
                    self.deliver(finished)
        except Exception:
            self.died(traceback.format_exc())

    def _submit(self, tickets: list[int], requests: list[PairRequest]) -> None:
        for ticket, request in zip(tickets, requests, strict=True):
            try:
                self.engine.submit(ticket, request)
            except UserError as error:
                self.refuse(ticket, str(error))

    def _abort(self, tickets: list[int]) -> None:
        for ticket in tickets:
            self.engine.abort(ticket)
