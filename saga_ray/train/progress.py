"""How far a run is and how it goes: a bar on a terminal, a line every ten seconds in a job's log.

Consumes the step records of ``train.records``; writes to the console alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

RECENT_STEPS = 20  # pace is measured over these: long enough to be steady, short enough to follow a change
READINGS = (  # (key of the step record, name on the console, format)
    ("loss/metric", "metric", "{:.3f}"),
    ("loss/grpo", "grpo", "{:+.3f}"),
    ("loss/distillation", "distillation", "{:.3f}"),
    ("loss/alignment", "alignment", "{:.3f}"),
    ("loss/captions", "captions", "{:.3f}"),
    ("loss/images", "images", "{:.3f}"),
    ("rollout/reward", "reward", "{:.2f}"),
    ("rollout/informative_share", "informative", "{:.0%}"),
)


class Progress:
    """Shows the arms of a run one after the other.

    with Progress(["metric", "saga"]) as progress:
        progress.begin("saga", steps=250)
        progress.update(record)     # once a step
        progress.end()
    """

    def __init__(
        self,
        arms: Sequence[str],
        *,
        console: Console | None = None,
        line_every_s: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._arms = list(arms)
        self._console = console or Console(soft_wrap=True)
        self._line_every_s, self._clock = line_every_s, clock
        self._live = Live(console=self._console, refresh_per_second=4) if self._console.is_terminal else None
        self._arm, self._readings = "", ""
        self._steps: int | None = None
        self._done, self._share = 0, 0.0
        self._pace: deque[tuple[float, float, int]] = deque(maxlen=RECENT_STEPS + 1)  # (time, share, steps)
        self._last_line: float | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, sentence: str) -> None:
        """Print a sentence, above the bar where there is one."""
        self._console.print(sentence, highlight=False, markup=False)

    def begin(self, arm: str, steps: int | None, done: int = 0) -> None:
        """An arm starts, with its steps (None: seconds to spend), of which a resumed arm has some `done`."""
        self._arm, self._steps, self._done = arm, steps, done
        self._share = done / steps if steps else 0.0
        self._readings, self._last_line = "", None
        self._pace.clear()  # measured from the first step's end: before it, workers start

    def update(self, record: Mapping[str, Any]) -> None:
        """A step is done: its record. Workers that started again repeat steps, and the pace begins anew."""
        done = int(record["step"]) + 1
        if done <= self._done:
            self._pace.clear()
        self._done = done
        self._share = self._done / self._steps if self._steps else float(record["progress"])
        self._readings = "  ".join(
            f"{name} {form.format(record[key])}" for key, name, form in READINGS if key in record
        )
        self._pace.append((self._clock(), self._share, self._done))
        self._show(last=self._done == self._steps)

    def end(self) -> None:
        """The arm is done."""
        if self._live:
            self._live.update("", refresh=True)
            self.say(self._line())

    def seconds_left(self) -> float | None:
        """Seconds that the arm still needs at the pace of its recent steps; None before the second."""
        if len(self._pace) < 2:
            return None
        (began, share_then, _), (now, share_now, _) = self._pace[0], self._pace[-1]
        gained = share_now - share_then
        return (1.0 - share_now) * (now - began) / gained if gained > 0 else None

    def _show(self, last: bool) -> None:
        if self._live:
            self._live.update(self._bar(), refresh=True)
            return
        now = self._clock()
        if last or self._last_line is None or now - self._last_line >= self._line_every_s:
            self._last_line = now
            self.say(self._line())

    def _where(self) -> str:
        return f"{self._arm} ({self._arms.index(self._arm) + 1} of {len(self._arms)})"

    def _count(self) -> str:
        return f"step {self._done}/{self._steps}" if self._steps else f"step {self._done}, {self._share:.0%}"

    def _time(self) -> str:
        left = self.seconds_left()
        if left is None:
            return "time left: ?"
        (began, _, then), (now, _, done) = self._pace[0], self._pace[-1]
        return f"{(now - began) / (done - then):.2f} s/step  {clock_time(left)} left"

    def _line(self) -> str:
        return "  ".join([self._where(), self._count(), self._time(), self._readings]).rstrip()

    def _bar(self) -> Group:
        row = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self._share, width=24)
        row.add_row(Text(self._where(), style="bold"), bar, self._count(), self._time())
        return Group(row, Text(self._readings, style="dim"))


def clock_time(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
