"""A run's folder on disk: who holds it, where its parts lie, what is already done.

settings.json  run.json  skipped.jsonl (broken pictures, if any)  result.json  report/index.html
arms/<arm>/    model/  steps.jsonl  test-embeddings.npy  arm.json (once it has ended)
checkpoints/   Ray Train's, while an arm is under way

"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from pydantic import BaseModel, ValidationError

from saga_ray.config.job import Job
from saga_ray.data import release
from saga_ray.data.table import SkippedImage
from saga_ray.errors import UserError
from saga_ray.files import write_text

Model = TypeVar("Model", bound=BaseModel)

LOCK = "running.pid"
SKIPPED = "skipped.jsonl"


class RunFolder:
    """Where a run's parts lie. ``open`` holds the folder for this process."""

    def __init__(self, path: Path, began: float | None = None) -> None:
        """`began`: when this session did, by the monotonic clock; now, unless given."""
        self.path = path
        self._began = time.monotonic() if began is None else began
        self._seconds_before = float(self._notes().get("seconds", 0.0))

    @classmethod
    def check(cls, path: Path, *, resume: bool) -> Path:
        """Refuse a folder that cannot be taken, before anything is loaded; returns its absolute path."""
        path = path.expanduser().resolve()
        if resume:
            if not (path / "settings.json").exists():
                raise UserError(
                    f"{path} holds no run to resume: settings.json is missing; "
                    "give the folder of a run that was interrupted"
                )
            holder = cls(path)._holder()
            if holder is not None:
                raise UserError(
                    f"{path} is in use by process {holder}; wait for it to end or stop it before resuming "
                    f"(if it is long gone, remove {LOCK} there)"
                )
        elif path.is_file():
            raise UserError(f"the output folder {path} is a file; give another --output")
        elif path.exists() and any(path.iterdir()):
            raise UserError(
                f"the output folder {path} is in use: it is not empty; "
                f"give another --output, or --resume {path} to continue it"
            )
        return path

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, settings: Job, *, resume: bool, began: float | None = None
    ) -> Iterator[RunFolder]:
        """Hold the folder while the block runs: a new one, or one that ``--resume`` continues.

        A new one that a `UserError` ends before any arm has begun is taken away again.
        """
        path = cls.check(path, resume=resume)
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "settings.json", settings.model_dump())
        (path / LOCK).write_text(f"{os.getpid()} {socket.gethostname()}")
        folder = cls(path, began)
        try:
            yield folder
        except UserError:
            begun = folder.checkpoints.exists() or (path / "arms").exists()
            if not resume and not begun:
                shutil.rmtree(path)
            raise
        finally:
            if path.exists():
                folder._note(seconds=folder.seconds)
            (path / LOCK).unlink(missing_ok=True)

    @staticmethod
    def settings_of(path: Path, model: type[Model]) -> Model:
        """The settings that a run began with. Raises UserError where there are none of this model."""
        file = path / "settings.json"
        if not file.exists():
            raise UserError(f"{path} holds no run: settings.json is missing")
        try:
            return model.model_validate(release.read_json(file))
        except ValidationError as error:
            raise UserError(f"{path} holds a run of another command: {file} has other settings") from error

    @classmethod
    def mlflow_run(cls, path: Path) -> str | None:
        """The MLflow run that an interrupted run began; none for a new one."""
        return cls(path)._notes().get("mlflow_run")

    def note_mlflow_run(self, run_id: str) -> None:
        """Remember the MLflow run, so that a resumed run goes on with it."""
        self._note(mlflow_run=run_id)

    @property
    def seconds(self) -> float:
        """Wall-clock seconds of the run, of this session and of those before it."""
        return self._seconds_before + time.monotonic() - self._began

    def write_skipped(self, skipped: Sequence[SkippedImage]) -> None:
        """List the broken pictures that were left out, if there are any."""
        if skipped:
            write_text(self.path / SKIPPED, "".join(json.dumps(asdict(each)) + "\n" for each in skipped))

    @property
    def checkpoints(self) -> Path:
        """Ray Train's storage; a folder an arm."""
        return self.path / "checkpoints"

    @property
    def report(self) -> Path:
        """Folder of the HTML page."""
        return self.path / "report"

    @property
    def result(self) -> Path:
        """File of the run's numbers."""
        return self.path / "result.json"

    def arm(self, name: str) -> Path:
        """Folder of an arm's records and model."""
        return self.path / "arms" / name

    def model(self, arm: str) -> Path:
        """Folder of an arm's trained encoder."""
        return self.arm(arm) / "model"

    def embeddings(self, arm: str) -> Path:
        """File of an arm's embeddings of the test classes, in the table's order (NumPy, float16)."""
        return self.arm(arm) / "test-embeddings.npy"

    def write_embeddings(self, arm: str, z_ME: ArrayLike) -> None:
        """Keep an arm's embeddings of the test classes, whole or not at all; before it is finished."""
        file = self.embeddings(arm)
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_name(file.name + ".part")
        with aside.open("wb") as opened:
            np.save(opened, np.asarray(z_ME, np.float16))
        os.replace(aside, file)

    def finished(self, arm: str) -> dict[str, Any] | None:
        """What an arm came to, if it has ended."""
        file = self.arm(arm) / "arm.json"
        return read_json(file) if file.exists() else None

    def finish(self, arm: str, model: Path, outcome: dict[str, Any]) -> None:
        """Keep an arm's encoder and outcome; its checkpoints are no longer needed."""
        self.arm(arm).mkdir(parents=True, exist_ok=True)
        if model != self.model(arm):
            aside = self.arm(arm) / "model.part"
            shutil.rmtree(aside, ignore_errors=True)
            shutil.copytree(model, aside)
            shutil.rmtree(self.model(arm), ignore_errors=True)
            aside.rename(self.model(arm))
        write_json(self.arm(arm) / "arm.json", outcome)
        self._note(seconds=self.seconds)
        shutil.rmtree(self.checkpoints / arm, ignore_errors=True)

    def steps(self, arm: str) -> list[dict[str, Any]]:
        """An arm's step records so far, in order."""
        file = self.arm(arm) / "steps.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def write_steps(self, arm: str, records: list[dict[str, Any]]) -> None:
        """Replace an arm's step records."""
        self.arm(arm).mkdir(parents=True, exist_ok=True)
        write_text(self.arm(arm) / "steps.jsonl", "".join(json.dumps(record) + "\n" for record in records))

    def _holder(self) -> str | None:
        """The process that has the folder open, with its machine where that is another."""
        try:
            process, machine = (self.path / LOCK).read_text().split()
        except (OSError, ValueError):
            return None
        if machine != socket.gethostname():
            return f"{process} on {machine}"  # there is no asking it from here
        try:
            os.kill(int(process), 0)
        except PermissionError:
            return process  # another user's
        except (OSError, ValueError):
            return None
        return process

    def _notes(self) -> dict[str, Any]:
        file = self.path / "run.json"
        return dict(read_json(file)) if file.exists() else {}

    def _note(self, **values: Any) -> None:
        write_json(self.path / "run.json", self._notes() | values)


def write_json(file: Path, value: Any) -> None:
    """`write_text` of a value as indented JSON."""
    write_text(file, json.dumps(value, indent=2) + "\n")


def read_json(file: Path) -> Any:
    """The value in a JSON file."""
    return json.loads(file.read_text())
