"""Rollout actors behind one collector: how a run's training workers get their pairs answered.

```
training worker 0 ──submit──▶ collector ──pairs, least loaded──▶ rollout actor 0 (engine)
training worker 1 ──submit──▶    │      ◀──finished groups────── rollout actor 1 (engine)
        ▲                        │
        └── accepted groups of its own pairs, in plan order ──┘
```
The collector decides (`collector.py`), the actors generate (`actor.py`), a client asks (`client.py`). Prompts
go from worker to actor through the object store; the collector sees answers only. The runs of a sweep share
the actors, and each has a collector of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from saga_ray.config.settings import Settings
from saga_ray.rollout.engine import Engine, PairRequest
from saga_ray.rollout.groups import Group
from saga_ray.rollout.pool.client import PoolClient
from saga_ray.rollout.pool.collector import Collector, Limits, PoolStats
from saga_ray.rollout.pool.engines import Engines, start_engines
from saga_ray.rollout.rewards import Judge

__all__ = ["Engines", "Pool", "PoolClient", "PoolStats", "open_pool", "running_pool", "start_engines"]

TELL_S = 30.0


class Pool:
    """What one run has of rollout actors; `open_pool` makes one."""

    def __init__(self, collector: Any, engines: Engines, wanted: int) -> None:
        self.engine_name, self.engine_version = engines.name, engines.version
        self._collector, self._wanted = collector, wanted
        self._sessions = itertools.count()

    def client(self, wanted: int | None = None) -> PoolClient:
        """A client for one arm's training workers; what an earlier client has under way ends when this one
        submits.

        ``wanted``: K, the settings' `grpo.informative_pairs` unless given.
        """
        return PoolClient(self._collector, next(self._sessions), self._wanted if wanted is None else wanted)

    def parity_groups(self, requests: Sequence[PairRequest]) -> list[Group]:
        """The groups of all these pairs (one step, one round, rising ``pair``), informative or not, for the
        parity gate."""
        step, round = requests[0].step, requests[0].round
        pairs = [request.pair for request in requests]
        client = self.client(wanted=len(requests) + 1)  # never reached: so every group is needed
        client.submit(step, round, requests, pairs)
        return client.decided(step, round)

    def stats(self) -> PoolStats:
        """Restarts, groups asked again and cancelled since the start."""
        stats: PoolStats = ray.get(self._collector.stats.remote(), timeout=TELL_S)
        return stats

    def close(self) -> None:
        """Leave the rollout actors to others."""
        with suppress(RayActorError, GetTimeoutError):
            ray.get(self._collector.leave.remote(), timeout=TELL_S)
        ray.kill(self._collector)


@contextmanager
def running_pool(
    settings: Settings,
    supervisor_folder: str | Path,
    verdict_key: str,
    build: Callable[[], Engine] | None = None,
) -> Iterator[Pool]:
    """A pool with rollout actors of its own for the duration of the block; see `start_engines`."""
    collector = _collector(settings, verdict_key)  # its process starts beside the actors'
    try:
        engines = start_engines(settings, supervisor_folder, build)
    except BaseException:
        ray.kill(collector)
        raise
    try:
        pool = _attach(collector, engines, settings)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        engines.close()


def open_pool(engines: Engines, settings: Settings, verdict_key: str) -> Pool:
    """A pool over rollout actors that are up. It ends with the process that opens it, and the actors then
    forget what it asked for.
    """
    return _attach(_collector(settings, verdict_key), engines, settings)


def _collector(settings: Settings, verdict_key: str) -> Any:
    limits = Limits(
        settings.rollout.group_timeout_s,
        settings.rollout.group_retries,
        settings.rollout.start_timeout_s,
        settings.train.collective_timeout_s,
    )
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    judge = Judge(verdict_key, settings.grpo.reward)
    return ray.remote(Collector).options(num_cpus=0, scheduling_strategy=here).remote(judge, limits)


def _attach(collector: Any, engines: Engines, settings: Settings) -> Pool:
    try:
        ray.get(collector.attach.remote(engines.actors), timeout=settings.rollout.start_timeout_s)
    except BaseException:
        ray.kill(collector)
        raise
    return Pool(collector, engines, settings.grpo.informative_pairs)
