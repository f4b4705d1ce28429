"""What a run needs by the cost model: GPUs and how they are shared out, the most memory, hours.

Counted for the arms that the run trains. Every arm with rollouts is counted as SAGA is; an arm without is
encoding, the tower's backward and the update. Embedding the test classes is not counted.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.plan.estimate import Part, Plan, Split, plan, step_parts
from saga_ray.plan.hardware import Speed
from saga_ray.plan.memory import GIB
from saga_ray.plan.supervisors import supervisor_sizes
from saga_ray.plan.workload import Workload
from saga_ray.reproduce.runs import Run
from saga_ray.train.arms import ARMS, arm_settings, needs_rollouts

WITHOUT_ROLLOUTS = ("encode", "tower backward", "optimizer")
"""Parts of a step of an arm that asks the supervisor nothing."""


@dataclass(frozen=True)
class Need:
    """Of one run."""

    gpus: int
    split: str
    """How they are shared out, in words."""
    peak_gib: float
    """The most that a GPU holds, vLLM's share included."""
    hours: tuple[float, float]
    """If rollouts and training overlap wholly, and if they do not at all."""
    changes: tuple[str, ...]
    """The settings of this split, for `--set`; none for a run without rollouts, which stays as it is."""


def need(run: Run, speed: Speed, gpus: int | None) -> Need:
    """What a run needs on so many GPUs; none: on as many as its settings ask for.

    Raises:
        UserError: the cost model cannot tell, or says that it does not fit.
    """
    settings = run.settings
    asked = _asked(settings, rollouts=_rollouts(settings))
    if not asked:
        raise UserError("its settings ask for no GPU, and hours are counted for GPUs alone")
    sizes = supervisor_sizes(settings)
    if not _rollouts(settings):
        return _alone(settings, Workload.of(_with_rollouts(settings), sizes), speed, asked)
    planned = plan(settings, Workload.of(settings, sizes), speed, gpus or asked)
    total = gpus or asked
    split, training = planned.split, planned.training
    vllm = split.memory_share * speed.gpu.memory_gib
    peak = training.peak / GIB
    low, high = (sum(each) for each in zip(*(_seconds(arm, planned) for arm in run.arms), strict=True))
    return Need(
        gpus=total,
        split="answers and trains" if split.shared else f"{split.rollout} answer, {split.training} train",
        peak_gib=vllm + peak if split.shared else max(vllm, peak),
        hours=(planned.workload.steps * low / 3600, planned.workload.steps * high / 3600),
        changes=planned.settings,
    )


def _seconds(arm: str, planned: Plan) -> tuple[float, float]:
    """Seconds of an arm for each of the run's steps, overlapped and not."""
    if not ARMS[arm].trains:
        return 0.0, 0.0
    if ARMS[arm].same_batches_as_saga:
        seconds = _own(planned.parts)
        return seconds, seconds
    return planned.seconds_overlapped, planned.seconds


def _alone(settings: Settings, workload: Workload, speed: Speed, gpus: int) -> Need:
    """A run that asks the supervisor nothing: one micro-batch a step, no language model on its GPUs."""
    workers = settings.train.workers
    single = replace(workload, micro_batches=1, most_micro_batches=1)
    state = single.state(-(-single.images // workers))
    graph = single.tower_graph(-(-single.images // workers))
    peak = state.total - state.supervisor + max(graph, single.update)
    seconds = _own(step_parts(single, speed, Split(1, workers, False, 0.0), 1))
    trained = sum(ARMS[arm].trains for arm in settings.arms)
    hours = trained * single.steps * seconds / 3600
    return Need(gpus, "trains" if gpus == 1 else "train", peak / GIB, (hours, hours), ())


def _own(parts: tuple[Part, ...]) -> float:
    return sum(part.seconds for part in parts if part.name in WITHOUT_ROLLOUTS)


def _rollouts(settings: Settings) -> bool:
    return any(needs_rollouts(arm_settings(settings, ARMS[arm])) for arm in settings.arms if ARMS[arm].trains)


def _with_rollouts(settings: Settings) -> Settings:
    """For the counts of a tower and its pictures, which a workload has beside those of rollouts."""
    asked = copy.deepcopy(settings)
    asked.grpo.weight = 1.0
    return asked


def _asked(settings: Settings, *, rollouts: bool) -> int:
    """GPUs that settings ask for, whole ones."""
    actors = settings.rollout.actors * settings.rollout.gpus_per_actor if rollouts else 0.0
    return math.ceil(actors + settings.train.workers * settings.train.gpus_per_worker)
