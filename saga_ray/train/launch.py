"""Train one arm with Ray Train, and carry its records to the driver while it runs.

Blocks until the arm has ended; waits for the workers' records a second at a time, so that progress and MLflow
stay current.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillRunning
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import Any, Protocol

import ray
import ray.train
from ray.exceptions import ActorUnavailableError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError
from ray.train.v2.api.config import FailureConfig
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from saga_ray.config.job import Job
from saga_ray.errors import Stopped, UserError
from saga_ray.train.record_log import RecordLog
from saga_ray.train.records import StepRecord

LONGEST_TRY_S = 60.0
"""Of Ray Train's tries to place the workers; it tries again until the run's own limit."""


class Task(Protocol):
    """What a worker does, with all that it needs; travels by pickle."""

    def run(self) -> None:
        """In the worker, inside Ray Train's session."""


def launch(
    task_of: Callable[[Any], Task],
    settings: Job,
    storage: Path,
    arm: str,
    on_record: Callable[[StepRecord], None],
    stop: Event | None = None,
) -> Path:
    """Train until the arm's end; returns the folder of its last checkpoint. Goes on from the arm's
    checkpoints if there are any. Once `stop` is set the workers end after a step or two, Ray Train gives back
    what it holds, and `Stopped` is raised.
    """
    log = _start_log()
    train = settings.train
    try_s = min(LONGEST_TRY_S, settings.ray.wait_for_resources_s)
    os.environ["RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"] = str(try_s)
    trainer = TorchTrainer(
        _entry(),
        train_loop_config={"task": ray.put(task_of(log))},
        torch_config=TorchConfig(timeout_s=int(train.collective_timeout_s)),
        scaling_config=ray.train.ScalingConfig(
            num_workers=train.workers,
            use_gpu=train.gpus_per_worker > 0,
            resources_per_worker={
                "CPU": train.cpus_per_worker,
                **({"GPU": train.gpus_per_worker} if train.gpus_per_worker else {}),
                **train.resources,
            },
        ),
        run_config=ray.train.RunConfig(
            name=arm,
            storage_path=str(storage),
            failure_config=FailureConfig(
                max_failures=train.max_failures,
                # Workers that find no room, or whose node goes while they start.
                controller_failure_limit=int(settings.ray.wait_for_resources_s // try_s) - 1,
            ),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    try:
        fitted = _in_background(trainer.fit)
        while not fitted.done():
            with suppress(StillRunning):
                fitted.exception(timeout=1.0)
            for record in _news(log, stopping=bool(stop and stop.is_set())):
                on_record(record)
        result = fitted.result()
    except ray.train.TrainingFailedError as error:
        raise _cause(error, arm, settings) from error
    finally:
        # Should the driver give up (Ctrl-C, a full disk), the workers notice by this and end too.
        ray.kill(log)
    if stop and stop.is_set():
        raise Stopped(f"arm {arm} was asked to stop")
    assert result.checkpoint is not None, "an arm reports a checkpoint at its end"
    return Path(result.checkpoint.path)


def _entry() -> Callable[[dict[str, ray.ObjectRef[Task]]], None]:
    """What Ray Train's workers run.

    Made here, and not a function of this module, so that Ray sends it as it is; the task goes by reference.
    Ray's controller, a process of its own in every arm, then does not import the worker's modules.
    """

    def train(config: dict[str, Any]) -> None:
        ray.get(config["task"]).run()

    return train


def _start_log() -> Any:
    """The actor of a `RecordLog`, on the driver's node: the loss of another one does not touch it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(RecordLog).options(num_cpus=0, scheduling_strategy=here).remote()


def _news(log: Any, *, stopping: bool) -> list[StepRecord]:
    """The records since the last call, none while the actor cannot be reached for a moment; `stopping`: it is
    told that training is to end.
    """
    try:
        if stopping:
            ray.get(log.stop.remote())
        records: list[StepRecord] = ray.get(log.drain.remote())
        return records
    except ActorUnavailableError:
        return []


def _in_background(work: Callable[[], ray.train.Result]) -> Future[ray.train.Result]:
    """Run in a thread that never keeps the process from ending, unlike an executor's."""
    future: Future[ray.train.Result] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    Thread(target=run, name="ray-train", daemon=True).start()
    return future


def _cause(error: Exception, arm: str, settings: Job) -> Exception:
    """The user's own error if that is what a worker failed with, else one that names arm and worker."""
    if isinstance(getattr(error, "controller_failure", None), WorkerGroupStartupTimeoutError):
        return UserError(
            f"arm {arm}: {settings.train.workers} training workers found no room on the Ray cluster within "
            f"ray.wait_for_resources_s={settings.ray.wait_for_resources_s:g} s: no nodes have enough free "
            "for them; wait for other jobs to end, or lower train.workers or their cpus and gpus"
        )
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for rank, failure in sorted(failures.items()):
        inner = getattr(failure, "cause", None) or failure.__cause__ or failure
        if isinstance(inner, UserError):
            return inner
        if isinstance(failure, UserError):
            return failure
        return RuntimeError(f"arm {arm}, training worker {rank}: {failure}")
    return RuntimeError(f"arm {arm}: {error}")
