"""``result.json`` of a sweep: every trial with its values and its way, the best, and its score on the test
classes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from saga_ray.config.sweep import Values
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.record import DataRecord, Record

FILE_NAME = "result.json"
Status = Literal["finished", "stopped", "failed", "unfinished"]


class TrialResult(Record):
    """One trial."""

    id: str
    values: Values = Field(description="dotted name of a searched setting -> its value")
    status: Status = Field(
        description="finished; stopped by the scheduler or the time limit; failed; or unfinished, because "
        "the sweep was interrupted"
    )
    history: list[tuple[int, float]] = Field(description="step and measure over the validation classes")
    seconds: float = Field(description="of training steps")
    error: str | None = Field(None, description="why it failed")

    @property
    def value(self) -> float | None:
        """The measure at the last look."""
        return self.history[-1][1] if self.history else None

    @property
    def steps(self) -> int:
        """Steps until the last look."""
        return self.history[-1][0] if self.history else 0


class SweepResult(Record):
    """A whole sweep."""

    name: str
    preset: str
    metric: str
    mode: Literal["max", "min"]
    interrupted: bool
    trials: list[TrialResult]
    best: str | None = Field(description="id of the trial that won, among those that finished")
    test: dict[str, dict[str, float]] = Field(
        description="the winner and those behind it, in order, scored once on the test classes"
    )
    registered: str | None = Field(None, description="the winner's address in MLflow's registry")
    data: DataRecord
    seconds: float
    versions: dict[str, str]

    def trial(self, id: str) -> TrialResult:
        """A trial by its id."""
        return next(trial for trial in self.trials if trial.id == id)

    def write(self, folder: Path) -> Path:
        """Write ``folder/result.json``, whole or not at all; returns its path."""
        write_text(folder / FILE_NAME, self.model_dump_json(indent=2) + "\n")
        return folder / FILE_NAME


def ranking(trials: list[TrialResult], mode: str) -> list[TrialResult]:
    """Those that finished, the best first; equal ones in the order in which they began."""
    finished = [trial for trial in trials if trial.status == "finished" and trial.value is not None]
    return sorted(finished, key=lambda trial: _key(trial, mode))


def _key(trial: TrialResult, mode: str) -> float:
    assert trial.value is not None
    return -trial.value if mode == "max" else trial.value


def read(path: Path) -> SweepResult:
    """Read a sweep's ``result.json``, or the one in its folder. Raises UserError."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        return SweepResult.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(f"{file} is not a sweep's result: {_first(error)}") from error


def _first(error: Any) -> str:
    return str(error).splitlines()[0]
