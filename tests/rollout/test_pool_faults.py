"""Short faults of the network between a pool's processes: nobody is taken for dead, calls are repeated."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError

from saga_ray.errors import UserError
from saga_ray.rollout.pool import actor, client
from saga_ray.rollout.pool.client import PoolClient

FAULT = ActorUnavailableError("a short fault", None)


@pytest.mark.parametrize(
    ("fault", "alive"), [(None, True), (FAULT, True), (GetTimeoutError(), True), (ActorDiedError(), False)]
)
def test_only_a_collector_that_died_is_left(
    fault: Exception | None, alive: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(reference: Any, timeout: float) -> None:
        if fault is not None:
            raise fault

    monkeypatch.setattr(ray, "get", get)
    collector = SimpleNamespace(__ray_ready__=SimpleNamespace(remote=lambda: None))
    assert actor._alive(collector) is alive


class Faulty:
    """A collector's handle: its calls raise what is due, then give the answer."""

    def __init__(self, answer: Any, faults: list[Exception]) -> None:
        self.answer, self.faults, self.calls = answer, faults, 0
        self.finish = SimpleNamespace(remote=self._call)

    def _call(self, *_: Any) -> Any:
        self.calls += 1
        return self.faults.pop(0) if self.faults else self.answer


@pytest.fixture
def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(answer: Any, timeout: float) -> Any:
        if isinstance(answer, Exception):
            raise GetTimeoutError if not timeout else answer
        return answer

    monkeypatch.setattr(ray, "get", get)
    monkeypatch.setattr(client, "ASK_AGAIN_S", 0.0)


def test_a_worker_asks_again_while_the_collector_cannot_be_reached(no_wait: None) -> None:
    collector = Faulty((SimpleNamespace(failure=None, groups=[]), "outcome"), [FAULT, FAULT])
    outcome: Any = PoolClient(collector, 0, 1).outcome(3, 0)
    assert outcome == "outcome" and collector.calls == 3


def test_a_worker_does_not_ask_for_longer_than_the_limit(
    no_wait: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER_LIMIT_S", -client.POLL_S)
    with pytest.raises(UserError, match="step 3, round 0: the rollout collector has not answered"):
        PoolClient(Faulty(None, [FAULT] * 3), 0, 1).outcome(3, 0)


def test_a_collector_that_died_ends_the_run(no_wait: None) -> None:
    with pytest.raises(UserError, match="step 3, round 0: the rollout collector is gone"):
        PoolClient(Faulty(None, [ActorDiedError()]), 0, 1).outcome(3, 0)
