"""What a sweep gives to a run that is one of its trials."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from saga_ray.train.folder import RunFolder
from saga_ray.train.records import StepRecord


@dataclass(frozen=True)
class Trial:
    """Of any command that trains."""

    mlflow_parent: str
    """The sweep's MLflow run."""
    on_record: Callable[[StepRecord, RunFolder], None]
    """Told of every step, repeated ones too."""
    stop: Event
    """Set by whoever wants the run to end early, which it does with `Stopped`."""
    start_from: Path | None = None
    """A checkpoint of another trial to go on from, with this one's settings."""
