"""Rollout actors behind one collector: how a run's training workers get their pairs answered.

```
training worker 0 ──submit──▶ collector ──pairs, least loaded──▶ rollout actor 0 (engine)
training worker 1 ──submit──▶    │      ◀──finished groups────── rollout actor 1 (engine)
        ▲                        │
        └── accepted groups of its own pairs, in plan order ──┘
```
The collector decides (`collector.py`), the actors generate (`actor.py`), a client asks (`client.py`). Prompts
go from worker to actor through the object store; the collector sees answers only.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from saga_ray.config.settings import RolloutSettings, Settings
from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine, PairRequest
from saga_ray.rollout.groups import Group
from saga_ray.rollout.pool.actor import EngineActor
from saga_ray.rollout.pool.client import PoolClient
from saga_ray.rollout.pool.collector import Collector, Limits, PoolStats

__all__ = ["Pool", "PoolClient", "PoolStats", "start_pool"]

log = logging.getLogger(__name__)

SAY_EVERY_S = 30.0


class Pool:
    """Running rollout actors; `start_pool` makes one."""

    def __init__(
        self, collector: Any, actors: list[Any], wanted: int, engine_name: str, engine_version: str
    ) -> None:
        self.engine_name, self.engine_version = engine_name, engine_version
        self._collector, self._actors, self._wanted = collector, actors, wanted
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
        stats: PoolStats = ray.get(self._collector.stats.remote(), timeout=SAY_EVERY_S)
        return stats

    def close(self) -> None:
        """End all actors at once."""
        for actor in [self._collector, *self._actors]:
            ray.kill(actor)


def start_pool(
    settings: Settings,
    supervisor_folder: str | Path,
    verdict_key: str,
    build: Callable[[], Engine] | None = None,
) -> Pool:
    """Start `rollout.actors` actors with an engine each and wait until all are ready.

    Ray must be initialised. ``build`` makes the engine inside an actor; unless given, it is `rollout.engine`
    on the supervisor.

    Raises:
        UserError: the cluster has too few free CPUs, GPUs or custom resources, or an engine does not start;
        says which and why.
    """
    rollout = settings.rollout
    if build is None:
        build = partial(_build_engine, settings, supervisor_folder)
    _wait_for_room(rollout, settings.ray.wait_for_resources_s)
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    limits = Limits(
        rollout.group_timeout_s,
        rollout.group_retries,
        rollout.start_timeout_s,
        settings.train.collective_timeout_s,
    )
    collector: Any = (
        ray.remote(Collector).options(num_cpus=0, scheduling_strategy=here).remote(verdict_key, limits)
    )
    # Threads that wait actively for one another stall where cores are shared: 8 s in place of 0.4 s a round.
    threads = {"OMP_NUM_THREADS": str(rollout.threads_per_actor), "OMP_WAIT_POLICY": "PASSIVE"}
    actors: list[Any] = [
        ray.remote(EngineActor)
        .options(
            num_cpus=rollout.cpus_per_actor,
            num_gpus=rollout.gpus_per_actor,
            resources=dict(rollout.resources),
            max_restarts=-1,  # what keeps killing actors ends the run through rollout.group_retries
            max_concurrency=8,
            runtime_env={"env_vars": threads},
        )
        .remote(index, build)
        for index in range(rollout.actors)
    ]
    try:
        name, version = _wait_until_ready(actors, rollout)
        ray.get(collector.attach.remote(actors), timeout=rollout.start_timeout_s)
    except BaseException:
        for actor in [collector, *actors]:
            ray.kill(actor)
        raise
    return Pool(collector, actors, settings.grpo.informative_pairs, name, version)


def _build_engine(settings: Settings, supervisor_folder: str | Path) -> Engine:
    # Imported in the rollout actor alone: the collector, which loads this module too, needs no torch.
    import torch

    from saga_ray.rollout import engines

    torch.set_num_threads(settings.rollout.threads_per_actor)
    supervisor, rollout = settings.supervisor, settings.rollout
    return engines.build(rollout.engine, supervisor_folder, rollout, supervisor.precision, supervisor.prompt)


def _needed(rollout: RolloutSettings) -> dict[str, float]:
    needed = {"CPU": rollout.cpus_per_actor, "GPU": rollout.gpus_per_actor, **rollout.resources}
    return {name: rollout.actors * amount for name, amount in needed.items() if amount > 0}


def _wait_for_room(rollout: RolloutSettings, limit_s: float) -> None:
    """Wait until the cluster has free what the actors ask for; what it does not even have in total is refused
    at once."""
    needed = _needed(rollout)
    deadline = time.monotonic() + limit_s
    while True:
        total, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
        never = any(total.get(name, 0.0) < amount for name, amount in needed.items())
        if not never and all(free.get(name, 0.0) >= amount for name, amount in needed.items()):
            return
        if never or time.monotonic() > deadline:
            waited = "" if never else f" after ray.wait_for_resources_s={limit_s:g} s"
            amounts = ", ".join(
                f"{amount:g} {name} ({total.get(name, 0.0):g} in the cluster, {free.get(name, 0.0):g} free)"
                for name, amount in needed.items()
            )
            raise UserError(
                f"no room for {rollout.actors} rollout actors{waited}: they need {amounts}; "
                "start Ray with more (ray.local_cpus), add nodes, or lower rollout.actors, "
                "rollout.cpus_per_actor or train.workers"
            )
        time.sleep(0.5)


def _wait_until_ready(actors: list[Any], rollout: RolloutSettings) -> tuple[str, str]:
    """The engines' name and version, once every actor has one."""
    waiting = {actor.about.remote(): index for index, actor in enumerate(actors)}
    deadline = time.monotonic() + rollout.start_timeout_s
    about: tuple[str, str] = ("", "")
    while waiting:
        ready, _ = ray.wait(list(waiting), timeout=min(SAY_EVERY_S, max(0.0, deadline - time.monotonic())))
        for reference in ready:
            index = waiting.pop(reference)
            try:
                about = ray.get(reference)
            except RayTaskError as error:
                raise error.cause if isinstance(error.cause, UserError) else error from None
            except RayActorError as error:
                raise UserError(f"rollout actor {index} did not start its engine: {error}") from error
        if ready or not waiting:
            continue
        numbers = f"{sorted(waiting.values())} of {len(actors)}; free: {_free()}"
        if time.monotonic() >= deadline:
            raise UserError(
                f"rollout actors did not start within rollout.start_timeout_s={rollout.start_timeout_s:g} s: "
                f"still waiting for {numbers}"
            )
        log.warning("waiting for rollout actors to load their engine: %s", numbers)
    return about


def _free() -> str:
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    return ", ".join(f"{free[name]:g} {name}" for name in ("CPU", "GPU") if name in free) or "nothing"
