"""Rollouts without Ray: one engine in this process, for tests, small trials and the reference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import Engine, PairRequest
from saga_ray.rollout.groups import Group
from saga_ray.rollout.rewards import Judge
from saga_ray.rollout.rounds import Asked, StepRounds


class LocalRollouts:
    """A `RolloutClient` for a single worker; the engine runs while the worker waits for groups."""

    def __init__(self, engine: Engine, wanted: int, judge: Judge) -> None:
        self.engine, self.wanted, self.judge = engine, wanted, judge
        self._step: int | None = None
        self._rounds = StepRounds(wanted, judge)
        self._asked: dict[int, Asked] = {}
        self._known: set[tuple[int, int]] = set()
        self._ticket = 0

    def submit(
        self, step: int, round: int, requests: Sequence[PairRequest], round_pairs: Sequence[int]
    ) -> None:
        assert [request.pair for request in requests] == list(round_pairs), (
            "a single worker submits every pair, in plan order"
        )
        if step != self._step:
            self._begin(step)
        self._rounds.open(round, round_pairs)
        for request in requests:
            if (round, request.pair) not in self._known:
                self._known.add((round, request.pair))
                self._ticket += 1
                self.engine.submit(self._ticket, request)
                self._asked[self._ticket] = Asked.of(request)
        self._cancel()

    def accepted(self, step: int, round: int) -> Iterator[Group]:
        given = 0
        while True:
            groups = self._rounds.accepted(round)
            yield from groups[given:]
            given = len(groups)
            if self._rounds.settled(round):
                return
            self._generate()

    def outcome(self, step: int, round: int) -> RoundOutcome:
        while not self._rounds.settled(round):
            self._generate()
        return self._rounds.outcome(round)

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _begin(self, step: int) -> None:
        for ticket in self._asked:
            self.engine.abort(ticket)
        self._step, self._rounds = step, StepRounds(self.wanted, self.judge)
        self._asked.clear()
        self._known.clear()

    def _generate(self) -> None:
        assert not self.engine.idle, "the engine is idle and groups are missing"
        for ticket, completions in self.engine.step():
            self._rounds.arrive(self._asked.pop(ticket), completions)
        self._cancel()

    def _cancel(self) -> None:
        unneeded = set(self._rounds.unneeded())
        for ticket in [ticket for ticket, asked in self._asked.items() if asked.key in unneeded]:
            self.engine.abort(ticket)
            del self._asked[ticket]
