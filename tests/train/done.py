"""A run that has ended, for tests that look at what it left."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saga_ray.config.settings import Settings
from saga_ray.train.folder import RunFolder
from saga_ray.train.result import Result
from saga_ray.train.run import run


@dataclass(frozen=True)
class Done:
    """Settings, folder and result."""

    settings: Settings
    folder: RunFolder
    result: Result


def finished(settings: Settings, output: Path) -> Done:
    """Run to the end."""
    return Done(settings, RunFolder(output), run(settings, output))
