"""What carries an arm's records while it trains outlives other nodes and short faults of the network."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from saga_ray.train import launch
from saga_ray.train.record_log import RecordLog


def test_the_record_log_lies_on_the_driver_s_node(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    actor = SimpleNamespace(options=lambda **options: asked.update(options) or actor, remote=lambda: "log")
    context = SimpleNamespace(get_node_id=lambda: "ab" * 28)
    monkeypatch.setattr(ray, "remote", lambda kind: actor if kind is RecordLog else None)
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    assert launch._start_log() == "log"
    where = asked["scheduling_strategy"]
    assert isinstance(where, NodeAffinitySchedulingStrategy)
    assert (where.node_id, where.soft, asked["num_cpus"]) == ("ab" * 28, False, 0)


class Log:
    """A `RecordLog`'s handle; its calls are what `ray.get` gets here."""

    def __init__(self) -> None:
        self.log = RecordLog()
        self.drain = SimpleNamespace(remote=lambda: self.log.drain)
        self.stop = SimpleNamespace(remote=lambda: self.log.stop)


def test_a_log_out_of_reach_for_a_moment_has_no_news(monkeypatch: pytest.MonkeyPatch) -> None:
    log, faults = Log(), [ActorUnavailableError("a short fault", None)]

    def get(call: Any) -> Any:
        if faults:
            raise faults.pop()
        return call()

    monkeypatch.setattr(ray, "get", get)
    log.log.append({"step": 0})
    assert launch._news(log, stopping=True) == []
    assert launch._news(log, stopping=True) == [{"step": 0}]
    assert not log.log.append({"step": 1}), "it was told again"
    faults.append(ActorDiedError())
    with pytest.raises(ActorDiedError):
        launch._news(log, stopping=False)
