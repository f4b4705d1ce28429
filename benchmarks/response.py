"""How retrieval responds to each loss weight, the others as the preset has them: grids of five values and
three seeds, over the validation classes.

    .venv/bin/python benchmarks/response.py [--concurrency 2]

Runs the spaces `grpo_weight` and `distillation_weight` (going on where it was interrupted) and writes
`benchmarks/response.md` and a curve for each weight, `docs/response-*.svg`.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from compare import cores

from saga_ray.config.sweep import SweepSettings, resolve_sweep
from saga_ray.tune import drawing
from saga_ray.tune.result import SweepResult, read

ROOT = Path(__file__).parents[1]
SPACES = ("grpo_weight", "distillation_weight")
STYLE = (
    "<style>svg{font:11px system-ui,sans-serif;fill:#5c6876;background:#fff}.grid{stroke:#e3e7ec}"
    "polyline{fill:none;stroke:#d9720b;stroke-width:2}circle{fill:#2f6fb3}</style>"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concurrency", default="2", help="trials at the same time")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where the sweeps go")
    args = parser.parse_args()
    lines = [
        "# Response to the loss weights",
        "",
        f"    .venv/bin/python benchmarks/response.py --concurrency {args.concurrency}",
        "",
    ]
    for space in SPACES:
        sweep = resolve_sweep(space)
        result = run(space, args.runs / f"response-{space}", args.concurrency)
        [name] = sweep.parameters
        picture = ROOT / "docs" / f"response-{space.replace('_', '-')}.svg"
        picture.write_text(curve(sweep, name, result))
        if space == SPACES[0]:
            versions = ", ".join(f"{key} {value}" for key, value in result.versions.items())
            changes = ", ".join(f"{key}={value}" for key, value in sweep.set.items())
            lines += [
                f"{date.today()}; {cores()}; {versions}. Preset {sweep.preset} with {changes}. MAP@R in per "
                "cent over the validation classes, which no run is trained on; mean ± standard deviation "
                "over the seeds (n - 1). The other weights are 1, that of the metric loss in all runs: Adam "
                "divides by the gradient's size, so only the weights' ratios to it matter.",
                "",
            ]
        lines += [f"## {name}", "", f"![{name}](../docs/{picture.name})", "", *table(sweep, name, result), ""]
    (ROOT / "benchmarks" / "response.md").write_text("\n".join(lines))
    print("\n".join(lines))


def run(space: str, folder: Path, concurrency: str) -> SweepResult:
    """The sweep's result; run or continued unless its folder has a whole one."""
    if (folder / "result.json").exists() and not read(folder).interrupted:
        return read(folder)
    where = ["--resume" if (folder / "sweep.json").exists() else "--output", str(folder)]
    saga = Path(sys.executable).with_name("saga")
    subprocess.run([saga, "sweep", space, "--set", f"concurrency={concurrency}", *where], check=True)
    return read(folder)


def table(sweep: SweepSettings, name: str, result: SweepResult) -> list[str]:
    """A row for each value: every seed, mean and spread."""
    rows = []
    for value in sweep.parameters[name].values:
        trials = [trial for trial in result.trials if trial.values[name] == value]
        trials.sort(key=lambda trial: trial.values["seed"])
        assert all(trial.status == "finished" for trial in trials), (
            f"{name}={value}: a trial has not finished"
        )
        found = [100 * trial.value for trial in trials]
        each = " ".join(f"{number:.1f}" for number in found)
        rows.append(f"| {value:g} | {statistics.mean(found):.1f} ± {statistics.stdev(found):.1f} | {each} |")
    seeds = ", ".join(str(seed) for seed in range(1, sweep.repeats + 1))
    return [f"| {name} | MAP@R | seeds {seeds} |", "| ---: | ---: | ---: |", *rows]


def curve(sweep: SweepSettings, name: str, result: SweepResult) -> str:
    """The sweep report's picture as a file of its own."""
    svg = str(drawing.over_setting(sweep, name, result.trials))
    opening, rest = svg.split(">", 1)
    return opening.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1) + f">{STYLE}{rest}\n"


if __name__ == "__main__":
    main()
