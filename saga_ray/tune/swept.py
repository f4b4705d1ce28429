"""What a sweep sweeps: runs of `saga train` (`tune.encoders`) or of `saga cir train` (`tune.embedders`).

The settings of both are `config.searched`'s; all else of a sweep is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from saga_ray.config.searched import AnySettings
from saga_ray.train.trial import Trial
from saga_ray.tune.result import TestedData

Say = Callable[[str], None]


class Trials(Protocol):
    """How a trial runs, with what all of them share; travels by pickle."""

    def run(self, settings: AnySettings, folder: Path, trial: Trial, *, resume: bool) -> None:
        """In a trial's process: the whole run. Raises `Stopped` once `trial.stop` is set."""


class Swept(Protocol):
    """In the sweep's own process; made once data and model are loaded and checked."""

    def trials(self, say: Say) -> AbstractContextManager[Trials]:
        """What trials share, for the duration of the block. Raises UserError where there is no room."""

    def test(self, model: Path) -> dict[str, float]:
        """Score what a trial has trained on what is held out for test."""

    def data(self) -> TestedData:
        """On what is trained and tested."""
