"""The rollout actors that all trials of a sweep share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from saga_ray.config.settings import Settings
from saga_ray.config.sweep import SweepSettings, corners, trial_settings
from saga_ray.rollout.engines import length_of_prompt
from saga_ray.rollout.pool import Engines, start_engines
from saga_ray.train.arms import ARMS, arm_settings, needs_rollouts
from saga_ray.train.cluster import wait_for_resources
from saga_ray.train.prepare import Ready

TRIAL_CPUS = 0.5
"""Of a trial's own process, which waits most of the time; training workers have theirs."""


@contextmanager
def shared_engines(
    sweep: SweepSettings, base: Settings, ready: Ready, say: Callable[[str], None]
) -> Iterator[Engines | None]:
    """Actors outside the trials' placement groups, gone at the end whatever happens; none where no trial asks
    for rollouts. An engine takes no longer prompts and answers than it was started for, so it is started for
    the longest of any trial. Raises UserError where there is no room for actors and trials.
    """
    found = [trial_settings(sweep, values) for values in corners(sweep)]
    trials = [trial for trial in found if isinstance(trial, Settings)]
    needed = any(needs_rollouts(arm_settings(trial, ARMS[sweep.arm])) for trial in trials)
    rollout = base.rollout if needed else None
    wait_for_resources(base, rollout, runs=sweep.concurrency, driver_cpus=TRIAL_CPUS)
    if not needed:
        yield None
        return
    say(f"starting {base.rollout.actors} rollout actor(s) with {base.rollout.engine}, shared by all trials")
    name = f"rollouts-{sweep.name}-{time.time_ns()}"
    engines = start_engines(roomiest(base, trials, ready), ready.supervisor.folder, name=name)
    try:
        yield engines
    finally:
        engines.close()


def roomiest(base: Settings, trials: list[Settings], ready: Ready) -> Settings:
    """The base with the longest answers, and the prompts with the most tokens, of any trial."""
    settings = base.model_copy(deep=True)
    settings.rollout.max_new_tokens = max(trial.rollout.max_new_tokens for trial in trials)
    styles = sorted({trial.supervisor.prompt for trial in trials})
    settings.supervisor.prompt = max(styles, key=lambda style: length_of_prompt(ready.supervisor, style))
    return settings
