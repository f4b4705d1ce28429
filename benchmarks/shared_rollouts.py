"""What one set of rollout actors for all trials of a sweep saves: memory and time of the same four trials
with shared and with private actors.

    .venv/bin/python benchmarks/shared_rollouts.py

The same random sweep twice, four trials at the same time, with one actor for all and with one for each; each
sweep in a process of its own, the memory of all whose processes is summed every two seconds (PSS: shared
pages count once). Prints a table.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import ray

from saga_ray.config.settings import Settings
from saga_ray.rollout.pool import Engines

TRIALS = 4
CHANGES = (
    "searcher=random",
    "scheduler=none",
    f"trials={TRIALS}",
    f"concurrency={TRIALS}",
    "runners_up=0",
)
STEPS = '{"train.steps"=10,"evaluation.verdict_pairs"=0}'
EVERY_S = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--one",
        nargs=2,
        metavar=("KIND", "FOLDER"),
        help="only run the sweep with `shared` or `private` actors, into a folder; nothing is measured",
    )
    args = parser.parse_args()
    if args.one:
        one(args.one[0] == "private", Path(args.one[1]))
        return
    print("| rollout actors | peak memory | seconds | steps a second, of all trials |")
    print("| --- | ---: | ---: | ---: |")
    for kind in ("shared", "private"):
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds, rate = measured(kind, Path(folder) / "sweep")
        print(f"| {kind} | {peak / 2**30:.1f} GiB | {seconds:.0f} | {rate:.2f} |", flush=True)


class Turn:
    """Counts the trials."""

    def __init__(self) -> None:
        self._count = itertools.count()

    def next(self) -> int:
        """0, 1, 2, ..."""
        return next(self._count)


class OneEach(Engines):
    """As many actors as trials, of which each trial takes one."""

    def __init__(self, actors: list[Any], name: str, version: str, turn: Any) -> None:
        super().__init__(actors, name, version)
        object.__setattr__(self, "turn", turn)

    def __reduce__(self) -> tuple[Any, ...]:
        return _taken, (self.actors, self.name, self.version, self.turn)


def _taken(actors: list[Any], name: str, version: str, turn: Any) -> Engines:
    """What arrives in a trial's process."""
    return Engines([actors[ray.get(turn.next.remote()) % len(actors)]], name, version)


def one(private: bool, folder: Path) -> None:
    """Run the sweep; private: with as many actors as trials, each of which has its own."""
    from saga_ray.config.sweep import resolve_sweep
    from saga_ray.tune import engines, sweep

    if private:
        make = engines.start_engines

        def one_each(base: Settings, *args: Any, **kwargs: Any) -> OneEach:
            base.rollout.actors = TRIALS
            made = make(base, *args, **kwargs)
            return OneEach(made.actors, made.name, made.version, ray.remote(Turn).remote())

        engines.start_engines = one_each
    settings = resolve_sweep("furniture_sweep", [*CHANGES, f"set={STEPS}"])
    result = sweep.sweep(settings, folder)
    assert all(trial.status == "finished" for trial in result.trials), result.trials


def measured(kind: str, folder: Path) -> tuple[int, float, float]:
    """Peak bytes, wall-clock seconds, and steps a second while trials were under way."""
    started, peak = time.monotonic(), 0
    with subprocess.Popen(
        [sys.executable, __file__, "--one", kind, str(folder)], stdout=subprocess.DEVNULL
    ) as process:
        while process.poll() is None:
            peak = max(peak, used(psutil.Process(process.pid)))
            time.sleep(EVERY_S)
    assert process.returncode == 0, f"the sweep with {kind} actors failed"
    seconds = time.monotonic() - started
    trials = json.loads((folder / "result.json").read_text())["trials"]
    longest = max(trial["seconds"] for trial in trials)
    return peak, seconds, sum(trial["history"][-1][0] for trial in trials) / longest


def used(process: psutil.Process) -> int:
    """Bytes of a process and of all that it has started."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        try:
            total += each.memory_full_info().pss
        except psutil.Error:
            continue  # it has just ended
    return total


if __name__ == "__main__":
    main()
