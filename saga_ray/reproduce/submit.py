"""The loop that fills a table in: starts runs, waits for them, rewrites the table after each.

Consumes the table's runs and something that starts `saga train`; produces the runs' folders, their logs and
the table's file, which is whole at any time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.reproduce.found import Progress, log_file, look, read_result, unfinished
from saga_ray.reproduce.runs import Run
from saga_ray.reproduce.table_text import Shown, markdown, table_lines

POLL_S = 1.0
MARK = "saga: "
"""What `saga` prints before the sentence of a mistake."""


@dataclass(frozen=True)
class Ended:
    """How a `saga train` ended."""

    ok: bool
    said: str
    """The last that it printed."""


class Started(Protocol):
    """A `saga train` under way."""

    def ended(self) -> Ended | None:
        """None as long as it goes on; returns at once."""

    def stop(self) -> None:
        """End it as Ctrl-C does, and wait until it has ended; harmless if it has."""


class Runner(Protocol):
    """Where runs run."""

    def start(self, name: str, arguments: Sequence[str], log: Path) -> Started:
        """Start `saga train` with these arguments; what it prints is added to `log`."""


def reproduce(
    shown: Shown,
    runs: list[Run],
    runner: Runner,
    output: Path,
    file: Path,
    *,
    command: str,
    at_once: int = 1,
    say: Callable[[str], None] = print,
    poll_s: float = POLL_S,
) -> list[Progress]:
    """Run what has not finished, `at_once` at a time; returns what has become of every run.

    A run that fails does not keep the others from running. An interruption stops those under way, leaves
    the table as far as it is, and goes on to the caller.
    """
    progress = look(output, runs)
    waiting = [each for each in progress if each.state != "finished"]
    under_way: list[tuple[Progress, Started]] = []
    file.parent.mkdir(parents=True, exist_ok=True)

    def tell(each: Progress, what: str) -> None:
        write_text(file, markdown(shown, progress, command))
        say(f"run {each.number} of {len(progress)} {what}")

    write_text(file, markdown(shown, progress, command))
    try:
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                each = waiting.pop(0)
                goes_on = each.state == "begun"
                each.state = "under way"
                tell(each, f"{'goes on' if goes_on else 'starts'}: {each.run.name}")
                try:
                    under_way.append((each, _start(each, runner, output, resume=goes_on)))
                except UserError as error:
                    each.state, each.error = "failed", str(error)
                    tell(each, f"failed: {error}")
            for each, started in list(under_way):
                ended = started.ended()
                if ended is not None:
                    under_way.remove((each, started))
                    _close(each, ended, log_file(output, each.run))
                    tell(each, f"failed: {each.error}" if each.error else each.state)
                    say("\n".join(table_lines(shown, progress)))
            if under_way:
                time.sleep(poll_s)
    finally:
        # Nothing is under way here unless the loop was interrupted.
        for each, started in under_way:
            started.stop()
            each.result = read_result(each.folder, each.run.arms)
            each.state = "finished" if each.result else unfinished(each.folder)
        write_text(file, markdown(shown, progress, command))
    return progress


def _start(each: Progress, runner: Runner, output: Path, *, resume: bool) -> Started:
    log = log_file(output, each.run)
    log.parent.mkdir(parents=True, exist_ok=True)
    return runner.start(each.run.name, each.run.arguments(each.folder, resume=resume), log)


def sentence(printed: str) -> str:
    """Why a `saga train` failed, from what it printed: its own sentence, else its last line."""
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    own = [line.removeprefix(MARK) for line in lines if line.startswith(MARK)]
    return own[-1] if own else lines[-1] if lines else "it printed nothing"


def _close(each: Progress, ended: Ended, log: Path) -> None:
    """Note how a run ended; one that says it is well must have left its result."""
    each.result = read_result(each.folder, each.run.arms)
    if ended.ok and each.result is not None:
        each.state = "finished"
        return
    each.state, each.result = "failed", None
    why = sentence(ended.said)
    if ended.ok:
        why = (
            f"it ended well, and {each.folder / 'result.json'} is not there to be read: --output must be a "
            "folder that this machine and the one of the run share"
        )
    each.error = f"{why} (log: {log})"
