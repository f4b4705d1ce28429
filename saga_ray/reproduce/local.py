"""Runs on this machine: one `saga train` after another, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from saga_ray.reproduce.submit import Ended

STOP_S = 120.0
"""Longest wait for an interrupted run, which stops its workers and actors; then it is killed."""
SAGA = "import sys; from saga_ray.cli import main; sys.exit(main())"
KEPT = 20_000
"""Bytes of the log's end that a failed run is understood from."""


class LocalRun:
    """One process. It leads a session of its own: a terminal's Ctrl-C reaches it once, by `stop`."""

    def __init__(self, arguments: Sequence[str], log: Path, echo: Callable[[str], None]) -> None:
        """Starts it."""
        self._log, self._echo = log, echo
        self._begin = self._read = log.stat().st_size if log.exists() else 0
        with log.open("ab") as printed:
            self._process = subprocess.Popen(
                [sys.executable, "-c", SAGA, "train", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def ended(self) -> Ended | None:
        """See `Started`; shows what has been printed since the last look."""
        code = self._process.poll()
        self._show()
        if code is None:
            return None
        printed = self._log.read_bytes()[self._begin :]
        return Ended(code == 0, printed[-KEPT:].decode(errors="replace"))

    def stop(self) -> None:
        """See `Started`."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt):  # who asks twice is not kept waiting
                self._process.kill()
                self._process.wait()
        self._show()

    def _show(self) -> None:
        with self._log.open("rb") as printed:
            printed.seek(self._read)
            more = printed.read()
        self._read += len(more)
        if more:
            self._echo(more.decode(errors="replace"))


class Local:
    """Starts runs here."""

    def __init__(self, echo: Callable[[str], None] | None = None) -> None:
        """`echo` gets what runs print; by default the terminal does."""
        self._echo = echo or _to_terminal

    def start(self, name: str, arguments: Sequence[str], log: Path) -> LocalRun:
        """See `Runner`."""
        return LocalRun(arguments, log, self._echo)


def _to_terminal(text: str) -> None:
    print(text, end="", flush=True)
