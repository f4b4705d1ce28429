"""The training worker's side of the pool; travels to the workers by pickle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayActorError

from saga_ray.errors import UserError
from saga_ray.rollout.client import RoundOutcome
from saga_ray.rollout.engine import PairRequest
from saga_ray.rollout.groups import Group
from saga_ray.rollout.pool.collector import Answer
from saga_ray.rollout.rounds import Asked

POLL_S = 10.0
"""The collector answers within this time whether there is news or not, so that its own end does not go
unnoticed."""
ANSWER_LIMIT_S = 60.0
"""Longest wait for that answer on top."""
ASK_AGAIN_S = 1.0
"""Between two calls while the collector cannot be reached."""


class PoolClient:
    """A `RolloutClient` over a pool. All workers of a run hold copies of one client; ``wanted`` is K, over
    all of them."""

    def __init__(self, collector: Any, session: int, wanted: int) -> None:
        self.collector, self.session, self.wanted = collector, session, wanted
        self._own: dict[tuple[int, int], list[int]] = {}

    def submit(
        self, step: int, round: int, requests: Sequence[PairRequest], round_pairs: Sequence[int]
    ) -> None:
        if not any(of_step == step for of_step, _ in self._own):
            self._own.clear()
        self._own[step, round] = [request.pair for request in requests]
        # Prompts go to the object store: the collector passes references on and each actor fetches its own.
        references = [ray.put(request) for request in requests]
        asked = [Asked.of(request) for request in requests]
        self._get(
            lambda: self.collector.submit.remote(
                self.session, step, round, self.wanted, list(round_pairs), asked, references
            ),
            0.0,
            step,
            round,
        )

    def accepted(self, step: int, round: int) -> Iterator[Group]:
        own = self._own[step, round]
        given = 0
        while True:
            answer = self._poll(step, round, own, given)
            self._raise_failure(answer)
            yield from answer.groups
            given += len(answer.groups)
            if answer.settled:
                return

    def outcome(self, step: int, round: int) -> RoundOutcome:
        return self._finish(step, round)[1]

    def decided(self, step: int, round: int) -> list[Group]:
        """All of a round's groups that the plan needed, of all workers, informative or not; waits for the
        round's end."""
        return self._finish(step, round)[0]

    def _poll(self, step: int, round: int, own: list[int], given: int) -> Answer:
        answer: Answer = self._get(
            lambda: self.collector.poll.remote(self.session, step, round, own, given, POLL_S),
            POLL_S,
            step,
            round,
        )
        return answer

    def _finish(self, step: int, round: int) -> tuple[list[Group], RoundOutcome]:
        while True:
            answer, outcome = self._get(
                lambda: self.collector.finish.remote(self.session, step, round, POLL_S), POLL_S, step, round
            )
            self._raise_failure(answer)
            if outcome is not None:
                return answer.groups, outcome

    def _get(self, ask: Callable[[], Any], wait_s: float, step: int, round: int) -> Any:
        """The collector's answer; asks again while it cannot be reached, which changes nothing there."""
        deadline = time.monotonic() + wait_s + ANSWER_LIMIT_S
        while True:
            try:
                return ray.get(ask(), timeout=max(0.0, deadline - time.monotonic()))
            except ActorUnavailableError:
                time.sleep(ASK_AGAIN_S)
            except GetTimeoutError as error:
                raise UserError(
                    f"step {step}, round {round}: the rollout collector has not answered for "
                    f"{wait_s + ANSWER_LIMIT_S:g} s; see whether its node is overloaded"
                ) from error
            except RayActorError as error:
                raise UserError(
                    f"step {step}, round {round}: the rollout collector is gone: {error}"
                ) from error

    def _raise_failure(self, answer: Answer) -> None:
        if answer.failure is not None:
            raise UserError(answer.failure)
