"""Training workers that fail at a chosen moment; they stand in for what `launch._entry` gives Ray Train.

A fault strikes while the arm's second checkpoint is handed over, once the first one is Ray Train's for
certain, and only the first time: a marker file beside the checkpoints remembers it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
import ray.train

from saga_ray.losses import metric as metric_losses
from saga_ray.train import worker
from saga_ray.train.worker import ArmTask

DRIVER = "driver.pid"
MARKER = "fault-was-here"


def worker_dies(config: dict[str, ray.ObjectRef[ArmTask]]) -> None:
    """The worker process is killed."""
    _train_with_fault(config, lambda: os.kill(os.getpid(), signal.SIGKILL))


def driver_dies(config: dict[str, ray.ObjectRef[ArmTask]]) -> None:
    """The driver process is killed, and the worker waits for its own end."""

    def kill_driver() -> None:
        os.kill(int((_storage() / DRIVER).read_text()), signal.SIGKILL)
        time.sleep(600)

    _train_with_fault(config, kill_driver)


def loss_becomes_nan(config: dict[str, ray.ObjectRef[ArmTask]]) -> None:
    """From the third step on the metric loss is no number."""
    build = metric_losses.build

    def build_poisoned(*args: Any, **kwargs: Any) -> Any:
        loss = build(*args, **kwargs)
        calls = 0

        def poison(_module: Any, _inputs: Any, output: Any) -> Any:
            nonlocal calls
            calls += 1
            return output * float("nan") if calls > 2 else output

        loss.register_forward_hook(poison)
        return loss

    metric_losses.build = build_poisoned
    try:
        worker.train_arm(ray.get(config["task"]))
    finally:
        metric_losses.build = build


def _train_with_fault(config: dict[str, ray.ObjectRef[ArmTask]], strike: Callable[[], None]) -> None:
    report, reports = ray.train.report, 0

    def faulty_report(*args: Any, **kwargs: Any) -> None:
        nonlocal reports
        reports += 1
        marker = _storage() / MARKER
        if reports == 2 and not marker.exists():
            _wait_until_registered()
            marker.touch()
            strike()
        report(*args, **kwargs)

    ray.train.report = faulty_report
    worker.train_arm(ray.get(config["task"]))


def _storage() -> Path:
    return Path(ray.train.get_context().get_storage().storage_fs_path)


def _wait_until_registered() -> None:
    deadline = time.monotonic() + 60
    while not list(_storage().glob("*/checkpoint_manager_snapshot.json")):
        assert time.monotonic() < deadline, "Ray Train has not registered the first checkpoint"
        time.sleep(0.1)
