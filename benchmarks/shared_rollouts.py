"""What one set of rollout actors for all trials of a sweep saves: memory and time of the same four trials
with shared and with private actors.

    .venv/bin/python benchmarks/shared_rollouts.py

The same random sweep over the GRPO weight twice, four trials at the same time, each in a process of its own;
every two seconds the memory of all its processes is summed (PSS: shared pages count once). Prints the table
of `benchmarks/shared_rollouts.md`, which a person keeps.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

CHANGES = ("searcher=random", "scheduler=none", "trials=4", "concurrency=4", "runners_up=0")
STEPS = '{"train.steps"=10,"evaluation.verdict_pairs"=0}'
EVERY_S = 2.0


def main() -> None:
    if len(sys.argv) == 3:
        one(sys.argv[1] == "private", Path(sys.argv[2]))
        return
    print("| rollout actors | peak memory | seconds | steps a second, of all trials |")
    print("| --- | ---: | ---: | ---: |")
    for kind in ("shared", "private"):
        with tempfile.TemporaryDirectory() as folder:
            peak, seconds, rate = measured(kind, Path(folder) / "sweep")
        print(f"| {kind} | {peak / 2**30:.1f} GiB | {seconds:.0f} | {rate:.2f} |", flush=True)


def one(private: bool, folder: Path) -> None:
    """Run the sweep; private: no actors are given to the trials, so that each starts its own."""
    from saga_ray.config.sweep import resolve_sweep
    from saga_ray.tune import sweep

    if private:

        @contextmanager
        def none(*args: object) -> Iterator[None]:
            yield None

        sweep._engines = none
    settings = resolve_sweep("furniture_sweep", [*CHANGES, f"set={STEPS}"])
    result = sweep.sweep(settings, folder)
    assert all(trial.status == "finished" for trial in result.trials), result.trials


def measured(kind: str, folder: Path) -> tuple[int, float, float]:
    """Peak bytes, wall-clock seconds, and steps a second while trials were under way."""
    started, peak = time.monotonic(), 0
    with subprocess.Popen(
        [sys.executable, __file__, kind, str(folder)], stdout=subprocess.DEVNULL
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
