"""An engine at work in a thread of its own: requests and cancellations come in as they like, finished groups
go out.

Several runs may share an engine. Each asks from a *desk* of its own, with its own tickets; what does not fit
into the engine at the same time waits here, and the desks take turns.
"""

from __future__ import annotations

import itertools
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine, Finished, PairRequest
from saga_ray.rollout.turns import Turns


@dataclass(frozen=True)
class _UnderWay:
    """Who asked for a group that the engine works on."""

    desk: str
    ticket: int
    completions: int


class _Closed(Exception):
    """Somebody asked for the end."""


class EngineLoop:
    """Consumes tickets; produces finished groups through ``deliver``; waits for more to do while the engine
    is idle.

    ``most`` completions are in the engine at the same time, or one group. ``refuse`` is told of a request
    that the engine did not take, with the sentence that says why. ``died`` gets the traceback of any other
    failure, after which the loop is over. All three are called in the loop's thread, and only there is the
    engine touched.
    """

    def __init__(
        self,
        engine: Engine,
        most: int,
        deliver: Callable[[str, list[Finished]], None],
        refuse: Callable[[str, int, str], None],
        died: Callable[[str], None],
    ) -> None:
        self.engine, self.most = engine, most
        self.deliver, self.refuse, self.died = deliver, refuse, died
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._waiting: Turns[str, tuple[int, PairRequest]] = Turns()
        self._under_way: dict[int, _UnderWay] = {}
        """By the engine's ticket: those of the desks would meet."""
        self._tickets = itertools.count(1)
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, desk: str, tickets: Sequence[int], requests: Sequence[PairRequest]) -> None:
        """All of them are here before the engine's next step, so that a batch does not depend on the thread's
        luck."""
        self._inbox.put(partial(self._submit, desk, list(tickets), list(requests)))

    def abort(self, desk: str, tickets: Sequence[int]) -> None:
        self._inbox.put(partial(self._abort, desk, set(tickets)))

    def leave(self, desk: str) -> None:
        """Nobody waits for this desk's groups any more."""
        self._inbox.put(partial(self._abort, desk, None))

    def close(self) -> None:
        """Close the engine between two steps and wait for that; the loop is over, whatever is under way."""
        self._inbox.put(self._close)
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                while (self.engine.idle and not self._waiting) or not self._inbox.empty():
                    self._inbox.get()()
                self._admit()
                self._hand_out(self.engine.step())
        except _Closed:
            self.engine.close()
        except Exception:
            self.died(traceback.format_exc())

    def _close(self) -> None:
        raise _Closed

    def _submit(self, desk: str, tickets: list[int], requests: list[PairRequest]) -> None:
        for ticket, request in zip(tickets, requests, strict=True):
            self._waiting.put(desk, (ticket, request))

    def _abort(self, desk: str, tickets: set[int] | None) -> None:
        """These tickets of a desk, or all."""
        self._waiting.drop(desk, lambda waiting: tickets is None or waiting[0] in tickets)
        for own, asked in list(self._under_way.items()):
            if asked.desk == desk and (tickets is None or asked.ticket in tickets):
                del self._under_way[own]
                self.engine.abort(own)

    def _admit(self) -> None:
        """Fill the engine, in turns."""
        room = self.most - sum(asked.completions for asked in self._under_way.values())
        while self._waiting:
            completions = len(self._waiting.peek()[1][1].seeds)
            if completions > room and self._under_way:
                return
            desk, (ticket, request) = self._waiting.take()
            own = next(self._tickets)
            try:
                self.engine.submit(own, request)
            except UserError as error:
                self.refuse(desk, ticket, str(error))
                continue
            self._under_way[own] = _UnderWay(desk, ticket, completions)
            room -= completions

    def _hand_out(self, finished: Sequence[Finished]) -> None:
        by_desk: dict[str, list[Finished]] = {}
        for own, completions in finished:
            asked = self._under_way.pop(own)
            by_desk.setdefault(asked.desk, []).append(Finished(asked.ticket, completions))
        for desk, of_desk in by_desk.items():
            self.deliver(desk, of_desk)
