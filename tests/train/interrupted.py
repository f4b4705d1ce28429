"""A run that is killed at its second checkpoint: ``python -m tests.train.interrupted SETTINGS OUTPUT``.

Joins the cluster of ``RAY_ADDRESS``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from saga_ray.config.settings import Settings
from saga_ray.train import launch
from saga_ray.train.folder import RunFolder
from saga_ray.train.run import run
from tests.train import faults

if __name__ == "__main__":
    settings, output = Settings.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    launch._entry = lambda: faults.driver_dies
    note = RunFolder.note_mlflow_run

    def note_process_too(folder: RunFolder, run_id: str) -> None:
        note(folder, run_id)
        folder.checkpoints.mkdir()
        (folder.checkpoints / faults.DRIVER).write_text(str(os.getpid()))

    RunFolder.note_mlflow_run = note_process_too  # type: ignore[method-assign]
    run(settings, output)
