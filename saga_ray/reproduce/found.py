"""What is in the folder of a reproduction: which runs have finished, with their results, which were begun.

OUTPUT/table-<name>.md   the table as far as it is filled in
OUTPUT/runs/<run>/       a run's folder, as `saga train` writes it
OUTPUT/logs/<run>.log    what it printed, of all its sessions
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from saga_ray.errors import UserError
from saga_ray.reproduce.runs import Run, serves
from saga_ray.train.result import FILE_NAME, ArmResult, Result, read

State = Literal["to come", "begun", "under way", "finished", "failed"]


@dataclass
class Progress:
    """A run of the table and what has become of it."""

    number: int
    """From 1, as it is named to a person."""
    run: Run
    folder: Path
    """Its own, or that of a run of another table that has its arms."""
    state: State
    result: Result | None = None
    error: str = ""
    """Of a failed one: its own sentence."""

    def measured(self, arm: str) -> ArmResult | None:
        """What an arm measured, if the run has finished."""
        return self.result.test.get(arm) if self.result else None


def runs_folder(output: Path) -> Path:
    """Holds the runs' folders, and the MLflow store that they share."""
    return output / "runs"


def log_file(output: Path, run: Run) -> Path:
    """What a run printed."""
    return output / "logs" / f"{run.name}.log"


def look(output: Path, runs: list[Run]) -> list[Progress]:
    """Every run as its folder says it is."""
    return [_look(output, number, run) for number, run in enumerate(runs, 1)]


def read_result(folder: Path, arms: list[str]) -> Result | None:
    """A run's result, if it has finished and has these arms."""
    if not (folder / FILE_NAME).is_file():
        return None
    try:
        result = read(folder)
    except UserError:
        return None
    return result if serves(arms, list(result.test)) else None


def unfinished(folder: Path) -> State:
    """What is to be said of a run that is neither finished nor under way."""
    return "begun" if (folder / "settings.json").is_file() else "to come"


def _look(output: Path, number: int, run: Run) -> Progress:
    own = runs_folder(output) / run.name
    for folder in _same(output, run, own):
        result = read_result(folder, run.arms)
        if result is not None:
            return Progress(number, run, folder, "finished", result)
    return Progress(number, run, own, unfinished(own))


def _same(output: Path, run: Run, own: Path) -> Iterator[Path]:
    """Folders of runs with the same settings, its own first."""
    yield own
    for folder in sorted(runs_folder(output).glob(f"*-{run.identity}")):
        if folder != own:
            yield folder
