"""The actor between training workers and rollout actors: hands pairs out, decides groups in plan order, asks
again for lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
import traceback
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError, RayError

from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import Finished
from saga_ray.rollout.groups import Group
from saga_ray.rollout.rewards import Judge
from saga_ray.rollout.rounds import Asked, StepRounds

Found = TypeVar("Found")


@dataclass(frozen=True)
class Limits:
    """How long the collector waits for whom; see the settings of the same names."""

    group_timeout_s: float
    group_retries: int
    start_timeout_s: float
    collective_timeout_s: float


@dataclass(frozen=True)
class Answer:
    """What a waiting worker is told."""

    groups: list[Group]
    settled: bool
    failure: str | None


@dataclass
class PoolStats:
    """What went wrong and was put right since the pool started."""

    restarts: int = 0
    """Rollout actors that died and came back."""
    asked_again: int = 0
    """Groups that were lost or late."""
    cancelled: int = 0
    """Groups that were aborted in an engine."""


@dataclass
class _Asking:
    """A group that is asked for and has not come back."""

    asked: Asked
    request: Any
    """Reference to the `PairRequest`: prompts are fetched by the rollout actors and never pass through
    here."""
    times: int = 0
    actor: int | None = None
    """None while no rollout actor is up."""
    deadline: float = float("inf")


class Collector:
    """Consumes requests of one step at a time from all workers, and finished groups; produces decided groups
    for the workers.

    A round goes out when all workers have submitted their share, in plan order, so that what the engines
    compute does not depend on which worker was first. Waits for workers (`train.collective_timeout_s`), for
    groups (`rollout.group_timeout_s`, then asks again) and for restarting actors (`rollout.start_timeout_s`).
    A failure is final: everyone who asks is told its sentence.
    """

    def __init__(self, judge: Judge, limits: Limits) -> None:
        self.judge, self.limits = judge, limits
        self.stats_ = PoolStats()
        self._actors: list[Any] = []
        self._desk = ""
        """This collector's name with the actors, which may work for others too."""
        self._up: set[int] = set()
        self._last_words: dict[int, str] = {}
        self._tickets = itertools.count(1)
        self._current: tuple[int, int] | None = None
        """(session, step): a session is one client's run, such as an arm."""
        self._rounds = StepRounds(1, judge)
        self._round_pairs: dict[int, list[int]] = {}
        self._gathering: dict[int, dict[int, _Asking]] = {}
        """Rounds that some worker has yet to submit its share of: round -> pair -> asking."""
        self._gathering_since: dict[int, float] = {}
        self._outstanding: dict[int, _Asking] = {}
        self._failure: str | None = None
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    # For the driver

    async def attach(self, actors: list[Any]) -> None:
        """The rollout actors, once they are ready."""
        self._actors = actors
        self._desk = ray.get_runtime_context().get_actor_id() or ""
        self._up = set(range(len(actors)))
        for index in range(len(actors)):
            self._start(self._watch_actor(index))
        self._start(self._watch_clock())

    async def stats(self) -> PoolStats:
        return self.stats_

    async def leave(self) -> None:
        """The run is over: the actors go on without it."""
        self._cancel(list(self._outstanding))
        for actor in self._up:
            self._actors[actor].leave.remote(self._desk)

    # For the training workers

    async def submit(
        self,
        session: int,
        step: int,
        round: int,
        wanted: int,
        round_pairs: list[int],
        asked: list[Asked],
        requests: list[Any],
    ) -> None:
        """One worker's share of a round."""
        if (session, step) != self._current:
            self._begin(session, step, wanted)
        self._rounds.open(round, round_pairs)
        if round not in self._round_pairs:
            self._round_pairs[round] = round_pairs
            self._gathering[round] = {}
            self._gathering_since[round] = time.monotonic()
        for one, request in zip(asked, requests, strict=True):
            if round in self._gathering:
                self._gathering[round][one.pair] = _Asking(one, request)
            else:  # a restarted worker repeats itself; the old reference is lost with its owner
                for asking in self._outstanding.values():
                    if asking.asked.key == one.key:
                        asking.request = request
        if round in self._gathering and self._gathering[round].keys() == set(round_pairs):
            gathered = self._gathering.pop(round)
            unneeded = set(self._rounds.unneeded())
            self._ask([gathered[pair] for pair in round_pairs if (round, pair) not in unneeded])
        await self._tell_waiting()

    async def poll(
        self, session: int, step: int, round: int, pairs: list[int], given: int, wait_s: float
    ) -> Answer:
        """The accepted groups among ``pairs`` after the first ``given``; waits up to ``wait_s`` for one, or
        for the round's end."""

        def answer() -> Answer:
            self._check(session, step)
            return Answer(
                self._rounds.accepted(round, pairs)[given:], self._rounds.settled(round), self._failure
            )

        return await self._wait(
            answer, lambda found: bool(found.groups or found.settled or found.failure), wait_s
        )

    async def finish(
        self, session: int, step: int, round: int, wait_s: float
    ) -> tuple[Answer, RoundOutcome | None]:
        """Waits up to ``wait_s`` for the round's end; then all its decided groups and its outcome."""

        def answer() -> tuple[Answer, RoundOutcome | None]:
            self._check(session, step)
            if not self._rounds.settled(round):
                return Answer([], False, self._failure), None
            return Answer(self._rounds.decided(round), True, self._failure), self._rounds.outcome(round)

        return await self._wait(answer, lambda found: bool(found[0].settled or found[0].failure), wait_s)

    # For the rollout actors

    async def deliver(self, actor: int, finished: list[Finished]) -> None:
        for ticket, completions in finished:
            asking = self._outstanding.pop(ticket, None)
            if asking is not None:  # else: cancelled, or asked again of another actor
                self._rounds.arrive(asking.asked, completions)
        unneeded = set(self._rounds.unneeded())
        self._cancel([ticket for ticket, asking in self._outstanding.items() if asking.asked.key in unneeded])
        await self._tell_waiting()

    async def refuse(self, ticket: int, sentence: str) -> None:
        """An engine did not take a request: asking again would not help."""
        if ticket in self._outstanding:
            self._fail(sentence)
            await self._tell_waiting()

    async def last_words(self, actor: int, trace: str) -> None:
        """Why an actor's engine failed; its process ends after this."""
        self._last_words[actor] = trace

    # Asking

    def _begin(self, session: int, step: int, wanted: int) -> None:
        """A new step: the one before is over, whatever of it is under way."""
        self._cancel(list(self._outstanding))
        self._current = (session, step)
        self._rounds = StepRounds(wanted, self.judge)
        self._round_pairs.clear()
        self._gathering.clear()
        self._gathering_since.clear()

    def _ask(self, askings: Sequence[_Asking]) -> None:
        """Hand groups out, each to the actor with the fewest under way that did not just lose it."""
        load = {actor: 0 for actor in sorted(self._up)}
        for asking in self._outstanding.values():
            if asking.actor in load:
                load[asking.actor] += 1
        messages: dict[int, tuple[list[int], list[Any]]] = {}
        for asking in askings:
            ticket = next(self._tickets)
            self._outstanding[ticket] = asking
            before, asking.actor, asking.deadline = asking.actor, None, float("inf")
            if not load:
                continue
            asking.actor = min(load, key=lambda actor: (actor == before, load[actor]))
            asking.deadline = time.monotonic() + self.limits.group_timeout_s
            asking.times += 1
            load[asking.actor] += 1
            tickets, requests = messages.setdefault(asking.actor, ([], []))
            tickets.append(ticket)
            requests.append(asking.request)
        for actor, (tickets, requests) in messages.items():
            self._start(self._send(actor, tickets, requests))

    async def _send(self, actor: int, tickets: list[int], requests: list[Any]) -> None:
        try:
            await self._actors[actor].submit.remote(self._desk, tickets, *requests)
        except RayActorError:
            pass  # whoever watches the actor asks again
        except RayError as error:  # a prompt could not be fetched: its worker is gone
            self._ask_again(tickets, f"its prompt was lost: {_first_line(error)}")
            await self._tell_waiting()

    def _ask_again(self, tickets: Sequence[int], why: str) -> None:
        lost = [self._outstanding[ticket] for ticket in tickets if ticket in self._outstanding]
        self._cancel(tickets)
        for asking in lost:
            if asking.times > self.limits.group_retries:
                self._fail(
                    f"rollout actor {asking.actor}: the group of {self._where(asking)} was lost "
                    f"{asking.times} times (rollout.group_retries={self.limits.group_retries}), "
                    f"the last time because {why}"
                )
                return
        self.stats_.asked_again += len(lost)
        self._ask(lost)

    def _cancel(self, tickets: Sequence[int]) -> None:
        by_actor: dict[int, list[int]] = {}
        for ticket in tickets:
            asking = self._outstanding.pop(ticket, None)
            if asking is not None and asking.actor is not None:
                by_actor.setdefault(asking.actor, []).append(ticket)
        for actor, cancelled in by_actor.items():
            self.stats_.cancelled += len(cancelled)
            self._actors[actor].abort.remote(self._desk, cancelled)

    # Watching

    async def _watch_actor(self, actor: int) -> None:
        """Ask again for what an actor held when it dies, and use it again once it is back."""
        me = ray.get_runtime_context().current_actor
        while True:
            try:
                await self._actors[actor].serve.remote(self._desk, me)
                return  # the run is over
            except RayActorError as error:
                why = f"the actor died: {self._last_words.pop(actor, str(error)).strip()}"
            self._up.discard(actor)
            self._ask_again(
                [ticket for ticket, asking in self._outstanding.items() if asking.actor == actor], why
            )
            await self._tell_waiting()
            try:
                ready = self._actors[actor].about.options(max_task_retries=-1).remote()
                await asyncio.wait_for(ready, self.limits.start_timeout_s)
            except (RayError, TimeoutError) as error:
                limit = f"within rollout.start_timeout_s={self.limits.start_timeout_s:g} s"
                self._fail(f"rollout actor {actor} did not come back {limit} ({_first_line(error)}); {why}")
                await self._tell_waiting()
                return
            self.stats_.restarts += 1
            self._up.add(actor)
            homeless = [ticket for ticket, asking in self._outstanding.items() if asking.actor is None]
            self._ask([self._outstanding.pop(ticket) for ticket in homeless])

    async def _watch_clock(self) -> None:
        """Ask again for late groups; give up on workers that do not submit their share."""
        while self._failure is None:
            await asyncio.sleep(min(1.0, self.limits.group_timeout_s / 4))
            now = time.monotonic()
            late = [ticket for ticket, asking in self._outstanding.items() if asking.deadline < now]
            self._ask_again(
                late, f"it took longer than rollout.group_timeout_s={self.limits.group_timeout_s:g} s"
            )
            for round in self._gathering:
                if now - self._gathering_since[round] > self.limits.collective_timeout_s:
                    missing = sorted(set(self._round_pairs[round]) - self._gathering[round].keys())
                    self._fail(
                        f"step {self._step}, round {round}: a training worker has not submitted its pairs "
                        f"{missing} for train.collective_timeout_s={self.limits.collective_timeout_s:g} s"
                    )
            await self._tell_waiting()

    # Waiting

    async def _wait(
        self, answer: Callable[[], Found], enough: Callable[[Found], bool], wait_s: float
    ) -> Found:
        """What ``answer`` finds once that is enough, or after ``wait_s``."""
        deadline = time.monotonic() + wait_s
        async with self._changed:  # held while looking, so that no change slips by before the wait
            while True:
                found = answer()
                remaining = deadline - time.monotonic()
                if enough(found) or remaining <= 0:
                    return found
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), remaining)

    async def _tell_waiting(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background; an error there would else pass unseen."""

        async def guarded() -> None:
            try:
                await work
            except Exception:
                self._fail(f"the rollout collector failed:\n{traceback.format_exc()}")
                await self._tell_waiting()

        task = asyncio.get_running_loop().create_task(guarded())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fail(self, sentence: str) -> None:
        self._failure = self._failure or sentence
        self._cancel(list(self._outstanding))

    def _check(self, session: int, step: int) -> None:
        assert (session, step) == self._current, f"{(session, step)} is not under way, but {self._current} is"

    @property
    def _step(self) -> int | None:
        return self._current[1] if self._current else None

    def _where(self, asking: _Asking) -> str:
        return f"step {self._step}, round {asking.asked.round}, pair {asking.asked.pair}"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
