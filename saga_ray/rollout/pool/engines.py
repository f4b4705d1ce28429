"""Starting rollout actors: is there room for them, and have all of them loaded their engine?"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from saga_ray.config.settings import RolloutSettings, Settings
from saga_ray.errors import UserError
from saga_ray.rollout.engine import Engine
from saga_ray.rollout.pool.actor import EngineActor

log = logging.getLogger(__name__)

SAY_EVERY_S = 30.0
CALLS = 64
"""Calls that an actor answers at the same time: each run that shares it keeps one open."""
CLOSE_S = 15.0
"""vLLM ends its processes in 9 s, by force if need be."""


@dataclass(frozen=True)
class Engines:
    """Rollout actors that are ready; `start_engines` makes them. Travels by pickle: the runs of a sweep share
    one, since a frozen supervisor's weights never differ.
    """

    actors: list[Any]
    name: str
    version: str

    def close(self) -> None:
        """End all actors. Their engines close first, as far as they answer: memory that an engine shares with
        processes of its own (`rollout.tensor_parallel`) stays on its node when it is killed."""
        closing = [actor.close.remote() for actor in self.actors]
        ray.wait(closing, num_returns=len(closing), timeout=CLOSE_S)
        for actor in self.actors:
            ray.kill(actor)


def start_engines(
    settings: Settings,
    supervisor_folder: str | Path,
    build: Callable[[], Engine] | None = None,
    name: str | None = None,
) -> Engines:
    """Start `rollout.actors` actors with an engine each and wait until all are ready.

    Ray must be initialised. ``build`` makes the engine inside an actor; unless given, it is `rollout.engine`
    on the supervisor. ``name`` is what the actors are called in Ray's own lists.

    Raises:
        UserError: the cluster has too few free CPUs, GPUs or custom resources, or an engine does not start;
        says which and why.
    """
    rollout = settings.rollout
    if build is None:
        build = partial(_build_engine, settings, supervisor_folder)
    _wait_for_room(rollout, settings.ray.wait_for_resources_s)
    # Threads that wait actively for one another stall where cores are shared: 8 s in place of 0.4 s a round.
    threads = {"OMP_NUM_THREADS": str(rollout.threads_per_actor), "OMP_WAIT_POLICY": "PASSIVE"}
    actors: list[Any] = [
        ray.remote(EngineActor)
        .options(
            name=f"{name}-{index}" if name else None,
            num_cpus=rollout.cpus_per_actor,
            num_gpus=rollout.gpus_per_actor,
            resources=dict(rollout.resources),
            max_restarts=-1,  # what keeps killing actors ends the run through rollout.group_retries
            max_concurrency=CALLS,
            runtime_env={"env_vars": threads},
        )
        .remote(index, rollout.max_parallel_sequences, build)
        for index in range(rollout.actors)
    ]
    try:
        return Engines(actors, *_wait_until_ready(actors, rollout))
    except BaseException:
        for actor in actors:
            ray.kill(actor)
        raise


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
        if rollout.gpus_per_actor > 1:
            numbers += f"; the {rollout.gpus_per_actor:g} GPUs of an actor must be on one node"
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
