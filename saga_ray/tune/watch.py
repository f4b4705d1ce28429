"""What becomes of the trials while a sweep runs: kept in a file, shown as a table.

A table on a terminal; in a job's log a line whenever a trial begins, ends or has been looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from ray.tune import Callback
from rich.console import Console
from rich.live import Live
from rich.table import Table

from saga_ray.config.sweep import SweepSettings, Values
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.train.folder import read_json
from saga_ray.tune.search import values_of

FILE_NAME = "trials.json"
State = Literal["runs", "ended", "failed"]


@dataclass
class Watched:
    """What is known of a trial."""

    number: int
    values: Values
    steps: int
    """Of a trial like this that nobody stops."""
    state: State = "runs"
    step: int = 0
    value: float | None = None
    error: str | None = None
    seconds: float = 0.0
    """Since it began, until it ended; of all sessions."""


@dataclass
class Watch(Callback):
    """Told by Tune; a context that shows the table."""

    sweep: SweepSettings
    folder: Path
    steps_of: Callable[[Values], int]
    """Of a trial with these values that nobody stops."""
    trials: dict[str, Watched] = field(default_factory=dict)
    console: Console = field(default_factory=lambda: Console(soft_wrap=True))

    def __post_init__(self) -> None:
        self._live = Live(console=self.console, refresh_per_second=2) if self.console.is_terminal else None
        self._running_since: dict[str, float] = {}
        file = self.folder / FILE_NAME
        if file.exists():
            self.trials = {id: Watched(**known) for id, known in read_json(file).items()}

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Tune keeps its callbacks in a file; whoever goes on from there tells the watch of that time."""
        return _present, ()

    def __enter__(self) -> Self:
        global _watch
        _watch = self
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.update(self.table(), refresh=True)
            self._live.stop()

    # Tune's calls

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `Callback`."""
        watched = self._watched(trial)
        watched.values = values_of(trial.config)  # PBT has changed them
        watched.state = "runs"
        self._running_since.setdefault(trial.trial_id, time.monotonic())
        self._note(watched, "begins")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: Mapping[str, Any], **info: Any
    ) -> None:
        """See `Callback`."""
        watched = self._watched(trial)
        watched.step, watched.value = int(result["step"]), float(result[self.sweep.metric])
        self._note(watched, f"step {watched.step}/{watched.steps}")

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `Callback`."""
        watched = self._watched(trial)
        watched.state = "ended"
        watched.seconds += self._spent(trial)
        self._note(watched, "has ended" if watched.step >= watched.steps else "was stopped")

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """See `Callback`."""
        watched = self._watched(trial)
        file = self.folder / "errors" / f"{trial.trial_id}.txt"
        watched.state = "failed"
        watched.error = file.read_text().strip() if file.exists() else "its process died"
        watched.seconds += self._spent(trial)
        self._note(watched, f"failed: {watched.error.splitlines()[-1]}")

    # The table

    def table(self) -> Table:
        """All trials, the newest last."""
        names = list(self.sweep.parameters)
        table = Table(title=f"Sweep {self.sweep.name}", title_justify="left", box=None, pad_edge=False)
        table.add_column("trial", justify="right")
        for name in [*names, *(["seed"] if self.sweep.repeats > 1 else [])]:
            table.add_column(name, justify="right")
        for heading in ("step", self.sweep.metric, "seconds", ""):
            table.add_column(heading, justify="right")
        best = self._best()
        for id, watched in self.trials.items():
            values = [watched.values.get(name) for name in names]
            values += [watched.values.get("seed")] if self.sweep.repeats > 1 else []
            since = self._running_since.get(id)
            seconds = watched.seconds + (time.monotonic() - since if since else 0.0)
            table.add_row(
                str(watched.number),
                *map(shown, values),
                f"{watched.step}/{watched.steps}",
                "" if watched.value is None else f"{watched.value:.2%}",
                f"{seconds:.0f}",
                watched.state,
                style="bold" if id == best else None,
            )
        return table

    def _best(self) -> str | None:
        scored = [(watched.value, id) for id, watched in self.trials.items() if watched.value is not None]
        if not scored:
            return None
        return (max if self.sweep.mode == "max" else min)(scored)[1]

    def _watched(self, trial: Any) -> Watched:
        known = self.trials.get(trial.trial_id)
        if known is None:
            values = values_of(trial.config)
            try:
                steps = self.steps_of(values)
            except UserError:  # values that no run can have: the trial says so when it fails
                steps = 0
            known = Watched(len(self.trials) + 1, values, steps)
            self.trials[trial.trial_id] = known
        return known

    def _spent(self, trial: Any) -> float:
        since = self._running_since.pop(trial.trial_id, None)
        return 0.0 if since is None else time.monotonic() - since

    def _note(self, watched: Watched, what: str) -> None:
        plain = {id: asdict(each) for id, each in self.trials.items()}
        write_text(self.folder / FILE_NAME, json.dumps(plain, indent=2) + "\n")
        if self._live:
            self._live.update(self.table())
            return
        values = "  ".join(f"{name}={shown(value)}" for name, value in watched.values.items())
        value = "" if watched.value is None else f"  {self.sweep.metric} {watched.value:.2%}"
        self.console.print(f"trial {watched.number} {what}{value}  {values}", highlight=False, markup=False)


_watch: Watch | None = None


def _present() -> Watch:
    assert _watch is not None, "a sweep's callbacks are read while there is no sweep"
    return _watch


def shown(value: Any) -> str:
    """A value as the table has room for."""
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
