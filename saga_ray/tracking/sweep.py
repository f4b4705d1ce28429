"""A sweep in MLflow: one run above its trials' runs, and the winner's model in the registry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from saga_ray.config.searched import AnySettings
from saga_ray.config.sweep import SweepSettings
from saga_ray.errors import UserError
from saga_ray.tracking.mlflow import Tracker, first_line, metric_name

ALIAS = "champion"
"""Of the registered model's version that the last sweep chose."""


class SweepTracker(Tracker):
    """The sweep's own run; its trials' runs are made by themselves, below it."""

    def log_sweep(self, sweep: SweepSettings) -> None:
        """What is searched, and how."""
        self.tag({"saga.sweep": sweep.name, "saga.space": json.dumps(sweep.model_dump())})

    def log_best(self, metrics: Mapping[str, float]) -> None:
        """The winner's measures."""
        self.log_metrics(metrics)
        self.flush()

    def end_trials(self) -> None:
        """Mark the runs of trials whose processes were ended before they could do it."""
        below = [self.run_id]
        for parent in below:
            for run in self._client.search_runs(
                [self._experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'"
            ):
                below.append(run.info.run_id)
                if run.info.status == "RUNNING":
                    self._client.set_terminated(run.info.run_id, "KILLED")

    def register(self, name: str, trial_run: str, arm: str, tags: Mapping[str, Any]) -> str:
        """Register the model that a trial's arm logged as a new version of `name`, and give it the alias;
        returns its address. Raises UserError where the store has no registry.
        """
        client = mlflow.MlflowClient()
        try:
            runs = client.search_runs(
                [self._experiment_id],
                f"tags.`mlflow.parentRunId` = '{trial_run}' and tags.`saga.arm` = '{arm}'",
            )
            models = [
                model
                for run in runs
                for model in client.search_logged_models(
                    [self._experiment_id], f"source_run_id = '{run.info.run_id}'"
                )
            ]
            if not models:
                raise UserError(
                    f"MLflow has no model of the winner's arm {arm}: its store did not take it when the "
                    "trial ended"
                )
            facts = {metric_name(key): str(value) for key, value in tags.items()}
            with redirect_stderr(StringIO()):  # MLflow prints what it does
                version = mlflow.register_model(models[0].model_uri, name, tags=facts)
            client.set_registered_model_alias(name, ALIAS, version.version)
        except MlflowException as error:
            raise UserError(f"MLflow does not register the model: {first_line(error)}") from error
        return f"models:/{name}@{ALIAS}"


def start_sweep(
    base: AnySettings, sweep: SweepSettings, home: Path, *, nodes: int, run_id: str | None
) -> SweepTracker:
    """Open the store as a run does, with the sweep's name. Raises UserError."""
    named = base.model_copy(update={"name": sweep.name})
    tracker = SweepTracker.start(named, home, nodes=nodes, run_id=run_id)
    tracker.log_sweep(sweep)
    return tracker
