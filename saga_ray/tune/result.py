"""``result.json`` of a sweep: every trial with its values and its way, the best, and its score on what is
held out for test.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import Field, ValidationError

from saga_ray.config.sweep import Values
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.record import DataRecord, Number, Record

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
    history: list[tuple[int, float]] = Field(
        description="step and measure over the validation classes or queries"
    )
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


class QueriesRecord(Record):
    """Which captions and triplets composed retrieval trains on, and which queries test it."""

    source: str = Field(description="name or path that the run was given")
    note: str = Field(description="what a reader must know of the data")
    hash: str = Field(description="of what it trains on")
    train_pictures: Number
    train_captions: Number
    train_triplets: Number
    test_queries: Number
    test_pictures: Number

    @property
    def tested_on(self) -> str:
        """What is scored, in words."""
        return f"{self.test_queries:,} test queries over {self.test_pictures:,} pictures"


TestedData: TypeAlias = DataRecord | QueriesRecord


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
        description="the winner and those behind it, in order, scored once on the test classes or queries"
    )
    registered: str | None = Field(None, description="the winner's address in MLflow's registry")
    data: TestedData
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
    """Of each point whose trials have finished its best trial, the points in the order of their means over
    seeds, the best first; equal ones in the order in which they began.
    """
    sign = -1.0 if mode == "max" else 1.0
    points: dict[str, list[TrialResult]] = {}
    for trial in trials:
        if trial.status == "finished" and trial.value is not None:
            points.setdefault(_point(trial), []).append(trial)
    found = sorted(points.values(), key=lambda of_point: sign * _mean(of_point))
    return [min(of_point, key=lambda trial: sign * (trial.value or 0.0)) for of_point in found]


def over_seeds(trials: list[TrialResult], trial: TrialResult) -> float:
    """The mean measure of a trial's point, over its seeds."""
    same = [each for each in trials if each.status == "finished" and _point(each) == _point(trial)]
    return _mean(same)


def _point(trial: TrialResult) -> str:
    return json.dumps({name: value for name, value in trial.values.items() if name != "seed"}, sort_keys=True)


def _mean(trials: list[TrialResult]) -> float:
    return statistics.mean(trial.value or 0.0 for trial in trials)


def read(path: Path) -> SweepResult:
    """Read a sweep's ``result.json``, or the one in its folder. Raises UserError."""
    file = path / FILE_NAME if path.is_dir() else path
    try:
        return SweepResult.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise UserError(f"{file} is not a sweep's result: {_first(error)}") from error


def _first(error: Any) -> str:
    return str(error).splitlines()[0]
