"""One trial: a run of the sweep's preset with values of its own, that tells Tune on the way how it does.

Runs inside a Tune trial's process. What it has done lies in its own run folder, so a trial that is started
again, after a failure or with the whole sweep, goes on from there. What it tells of, and when, is in
`tune.encoders` and `tune.embedders`.
"""

from __future__ import annotations

import json
import shutil
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from ray import tune

from saga_ray.config.searched import last_trained
from saga_ray.config.sweep import SweepSettings, trial_settings
from saga_ray.errors import Stopped, UserError
from saga_ray.train.checkpoint import records_of
from saga_ray.train.folder import LOCK, RunFolder
from saga_ray.train.records import StepRecord
from saga_ray.train.trial import Trial
from saga_ray.tune.search import values_of
from saga_ray.tune.swept import Trials

OWNER, BEFORE, DONOR = "trial.json", "before", "donor"
"""In a Tune checkpoint: whose it is, and what its run had trained before; in a run folder: one that PBT gave.
"""
VALIDATION = "validation/"
"""How the measures of a look begin in a step record."""
CHECKPOINT_WAIT_S = 120.0
STOP_WAIT_S = 300.0
"""For a stopped run to give back what it holds: it ends after a step, or once its workers have started."""


@dataclass(frozen=True)
class TrialTask:
    """What all trials of a sweep have in common; travels by pickle."""

    sweep: SweepSettings
    trials: Trials
    folder: Path
    """The sweep's."""
    mlflow_parent: str
    mlflow_uri: str

    def trial_folder(self, trial: str) -> Path:
        """A trial's run folder."""
        return self.folder / "trials" / trial

    def error_file(self, trial: str) -> Path:
        """Why a trial failed, the last time that it did."""
        return self.folder / "errors" / f"{trial}.txt"


def looks(records: Iterable[StepRecord]) -> list[dict[str, Any]]:
    """The looks at validation among step records: steps done, and the measures by name."""
    found = []
    for record in records:
        measures = {
            name.removeprefix(VALIDATION): value
            for name, value in record.items()
            if name.startswith(VALIDATION)
        }
        if measures:
            found.append({"step": record["step"] + 1, **measures})
    return found


class TuneTrial(tune.Trainable):
    """What Tune runs. The run itself has a thread of its own; a `step` lasts until its next look at
    validation.
    """

    def setup(self, config: dict[str, Any], task: TrialTask) -> None:  # type: ignore[override]
        """See `tune.Trainable`."""
        self.task, self.id = task, str(self.trial_id)
        self.values = values_of(config)
        self.folder = RunFolder(task.trial_folder(self.id))
        self._said: SimpleQueue[dict[str, Any] | Exception] = SimpleQueue()
        self._told: dict[str, Any] = {}
        self._step = 0
        self._stop = Event()
        self._thread: Thread | None = None

    def step(self) -> dict[str, Any]:
        """See `tune.Trainable`: the measures of the next look; the last one's when all is done."""
        if self._thread is None:  # not in setup: a checkpoint to start from is known only now
            self._thread = Thread(target=self._run, name="run", daemon=True)
            self._thread.start()
        said = self._said.get()
        if isinstance(said, Exception):
            raise said
        self._told = said
        return dict(said)

    def cleanup(self) -> None:
        """See `tune.Trainable`: comes back when the run has given back its workers and requests."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_WAIT_S)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """See `tune.Trainable`: PBT gives it to trials that do worse."""
        deadline = time.monotonic() + CHECKPOINT_WAIT_S
        while time.monotonic() < deadline:
            newest = self._checkpoint(self._told["step"])
            try:
                if newest is not None:
                    shutil.copytree(newest, checkpoint_dir, dirs_exist_ok=True)
                    for arm in list(self.settings.trained)[:-1]:
                        before = Path(checkpoint_dir) / BEFORE / arm
                        shutil.copytree(self.folder.arm(arm), before, dirs_exist_ok=True)
                    (Path(checkpoint_dir) / OWNER).write_text(json.dumps({"trial": self.id}))
                    return
            except (FileNotFoundError, shutil.Error):
                pass  # a newer one has taken its place meanwhile
            time.sleep(0.2)
        raise RuntimeError(f"the checkpoint of the last look did not come within {CHECKPOINT_WAIT_S:g} s")

    def load_checkpoint(self, checkpoint_dir: Any) -> None:
        """See `tune.Trainable`: from a better trial; this one then forgets its own way."""
        if json.loads((Path(checkpoint_dir) / OWNER).read_text())["trial"] == self.id:
            return  # its own: the run folder has as much
        donor, arms = self.folder.path / DONOR, self.folder.path / "arms"
        for part in (donor, arms, self.folder.checkpoints):
            shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(checkpoint_dir, donor)
        if (donor / BEFORE).exists():
            (donor / BEFORE).rename(arms)

    def _run(self) -> None:
        folder, error_file = self.folder.path, self.task.error_file(self.id)
        (folder / LOCK).unlink(missing_ok=True)  # left by a process that died, maybe on another machine
        try:
            # Not in setup: values that no run can have fail this trial, with their sentence, and no other.
            self.settings = trial_settings(self.task.sweep, self.values)
            self.settings.name, self.settings.tracking.uri = self.id, self.task.mlflow_uri
            self.arm, self.steps = last_trained(self.settings)
            donor = folder / DONOR
            self.task.trials.run(
                self.settings,
                folder,
                Trial(
                    self.task.mlflow_parent, self._on_record, self._stop, donor if donor.exists() else None
                ),
                resume=(folder / "settings.json").exists(),
            )
        except Stopped:
            self._said.put({"done": True})
        except Exception as error:
            said = str(error) if isinstance(error, UserError) else traceback.format_exc()
            error_file.parent.mkdir(exist_ok=True)
            error_file.write_text(said)
            self._said.put(error)
        else:
            error_file.unlink(missing_ok=True)
            last = looks(self.folder.steps(self.arm))[-1]
            self._said.put(last | {"done": True})

    def _on_record(self, record: StepRecord, folder: RunFolder) -> None:
        """Tell of each look, once; of the last when the run has ended."""
        for look in looks([record]):
            if self._step < look["step"] < self.steps:
                self._step = look["step"]
                self._said.put(look)

    def _checkpoint(self, step: int) -> Path | None:
        """The worker's newest checkpoint, if it is of that step or later."""
        checkpoints = (self.folder.checkpoints / self.arm).glob("checkpoint_*/steps.jsonl")
        newest = max(checkpoints, default=None)
        if newest is None or len(records_of(newest.parent)) < step:
            return None
        return newest.parent
