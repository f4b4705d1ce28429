"""An arm's step records on their way to disk and MLflow: each step once, however often it is told."""

from __future__ import annotations

from collections.abc import Sequence

from saga_ray.tracking.mlflow import ArmRun
from saga_ray.train.folder import RunFolder
from saga_ray.train.records import StepRecord, scalar_metrics


class Logbook:
    """Of one arm; written to the run's folder every so many steps, and whole at the end."""

    def __init__(self, folder: RunFolder, arm: str, log: ArmRun, every: int) -> None:
        self._folder, self._arm, self._log, self._every = folder, arm, log, every
        self._by_step = {record["step"]: record for record in folder.steps(arm)}

    @property
    def done(self) -> int:
        """Steps that are recorded."""
        return len(self._by_step)

    def take(self, record: StepRecord) -> None:
        """A step is done. Workers that started again repeat steps, and so does a run after a hard kill."""
        self._measure(record)
        self._by_step[record["step"]] = record
        if (record["step"] + 1) % self._every == 0:
            self._log.flush()
            self._folder.write_steps(self._arm, [self._by_step[step] for step in sorted(self._by_step)])

    def close(self, records: Sequence[StepRecord]) -> None:
        """All steps are done: their records, of which some may have come when no driver was there."""
        for record in records:
            self._measure(record)
        self._folder.write_steps(self._arm, list(records))

    def _measure(self, record: StepRecord) -> None:
        if record["step"] not in self._by_step and record["step"] > self._log.last_step:
            self._log.log_metrics(scalar_metrics(record), step=record["step"])
