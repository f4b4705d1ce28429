"""Where runs and stores live: never in the working folder of a submitted job, which Ray deletes."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

from saga_ray.errors import UserError


def home() -> Path:
    """``$SAGA_HOME``, else ``~/saga``."""
    return Path(os.environ.get("SAGA_HOME") or "~/saga").expanduser().absolute()


def runs_folder() -> Path:
    """The folder of runs that were given no ``--output``."""
    return home() / "runs"


def new_run_folder(name: str, now: datetime | None = None) -> Path:
    """A folder for a run that was given no ``--output``: its name and the time; not yet made."""
    return runs_folder() / f"{name}-{now or datetime.now():%Y%m%d-%H%M%S}"


def find_run(run: str) -> Path:
    """A run by its folder, or by its folder's name under `runs_folder`."""
    for folder in (Path(run).expanduser(), runs_folder() / run):
        if folder.is_dir():
            return folder.absolute()
    raise UserError(f"there is no run {run!r}, nor one of that name under {runs_folder()}; give its folder")


def output_home(output: Path) -> Path:
    """The folder that holds a run's folder: there lies the MLflow store that its runs share by default."""
    return output.expanduser().absolute().parent
