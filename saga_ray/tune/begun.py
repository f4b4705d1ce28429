"""``sweep.json``: what a sweep began with, and how it goes on after an interruption."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from saga_ray.config.searched import AnySettings
from saga_ray.config.sweep import SweepSettings
from saga_ray.config.unchanged import require_unchanged
from saga_ray.errors import UserError
from saga_ray.train.folder import read_json, write_json
from saga_ray.tune import result
from saga_ray.tune.result import SweepResult

FILE_NAME = "sweep.json"


def write(folder: Path, settings: SweepSettings, base: AnySettings, mlflow_run: str) -> None:
    """Keep the settings of a sweep, and of a trial of it, and its MLflow run."""
    kept = {"mlflow_run": mlflow_run, "sweep": settings.model_dump(), "base": base.model_dump()}
    write_json(folder / FILE_NAME, kept)


def mlflow_run(folder: Path) -> str:
    """The MLflow run that a sweep began."""
    return str(read_json(folder / FILE_NAME)["mlflow_run"])


def require_same(folder: Path, settings: SweepSettings, base: AnySettings) -> None:
    """A sweep goes on with the settings, and the preset, that it began with; where it runs may have changed.
    Raises UserError.
    """
    kept = read_json(folder / FILE_NAME)
    try:
        require_unchanged(folder, SweepSettings.model_validate(kept["sweep"]), settings, "sweep")
        require_unchanged(folder, type(base).model_validate(kept["base"]), base, "sweep")
    except ValidationError as error:
        raise UserError(
            f"{folder} holds a sweep of another version: {FILE_NAME} has other settings; start a new sweep"
        ) from error


def ended(folder: Path) -> SweepResult | None:
    """The result of a sweep that has nothing left to do: its trials have ended, and who won was tested."""
    if not (folder / result.FILE_NAME).exists():
        return None
    found = result.read(folder)
    return found if not found.interrupted and (found.best is None or found.test) else None
