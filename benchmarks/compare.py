"""Repeat a comparison of arms over several seeds and write its table: mean, spread, every seed, command,
date, machine.

    .venv/bin/python benchmarks/compare.py NAME --seeds 1,2,3 -- furniture --set arms=[start,metric,saga]

What stands behind `--` goes to `saga train`, with a seed and an output folder added. Writes
`benchmarks/NAME.md` (the table) and `benchmarks/NAME.json` (the numbers of every seed). A seed whose run is
already there is not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from datetime import date
from pathlib import Path

from saga_ray.retrieval.measures import headings


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"), help="where the runs go")
    parser.add_argument("train", nargs="+", metavar="SAGA_TRAIN_ARGUMENT")
    args = parser.parse_args()
    seeds = [int(seed) for seed in args.seeds.split(",")]
    results = {seed: run(args.runs / f"{args.name}-seed{seed}", seed, args.train) for seed in seeds}
    numbers = {
        seed: {arm: measures_of(found) for arm, found in result["test"].items()}
        for seed, result in results.items()
    }
    here = Path(__file__).parent
    (here / f"{args.name}.json").write_text(json.dumps(numbers, indent=2) + "\n")
    (here / f"{args.name}.md").write_text(page(args.name, args.train, results, numbers))
    print((here / f"{args.name}.md").read_text())


def run(folder: Path, seed: int, train: list[str]) -> dict:
    """The result of one seed; trained unless its folder has one."""
    if not (folder / "result.json").exists():
        saga = Path(sys.executable).with_name("saga")
        subprocess.run([saga, "train", *train, "--set", f"seed={seed}", "--output", folder], check=True)
    return json.loads((folder / "result.json").read_text())


def measures_of(found: dict) -> dict[str, float]:
    extra = {
        name: found[name]
        for name in ("informative_share", "pairs_replayed", "seconds")
        if found.get(name) is not None
    }
    return {name: found[name] for name in headings(found)} | extra


def page(name: str, train: list[str], results: dict[int, dict], numbers: dict[int, dict]) -> str:
    """The table as Markdown."""
    seeds = list(numbers)
    arms = list(numbers[seeds[0]])
    first = results[seeds[0]]
    columns = headings(first["test"][arms[0]])
    versions = ", ".join(f"{key} {value}" for key, value in first["versions"].items())
    lines = [
        f"# {name}",
        "",
        f"    .venv/bin/python benchmarks/compare.py {name} --seeds {','.join(map(str, seeds))} "
        f"-- {shlex.join(train)}",
        "",
        f"{date.today()}; {cores()}; seeds {', '.join(map(str, seeds))}. Per cent over "
        f"{first['test'][arms[0]]['queries']:,} queries of {first['data']['test_classes']} classes never "
        "trained on, mean ± standard deviation over the seeds (n - 1).",
        f"{first['data']['note']}",
        "",
        "| arm | " + " | ".join(columns.values()) + " | MAP@R by seed | seconds of training |",
        "|---|" + "---|" * (len(columns) + 2),
    ]
    for arm in arms:
        cells = [spread([100 * numbers[seed][arm][measure] for seed in seeds]) for measure in columns]
        by_seed = " ".join(f"{100 * numbers[seed][arm]['map@r']:.2f}" for seed in seeds)
        seconds = spread([numbers[seed][arm].get("seconds", 0.0) for seed in seeds], digits=0)
        lines.append(f"| {arm} | " + " | ".join(cells) + f" | {by_seed} | {seconds} |")
    lines += ["", "Differences in points of MAP@R, seed by seed:", ""]
    for reference in [arm for arm in ("start", "metric") if arm in arms]:
        for arm in arms:
            if arm not in (reference, "start"):
                gains = [
                    100 * (numbers[seed][arm]["map@r"] - numbers[seed][reference]["map@r"]) for seed in seeds
                ]
                by_seed = ", ".join(f"{gain:+.2f}" for gain in gains)
                lines.append(f"- {arm} - {reference}: {spread(gains)} ({by_seed})")
    return "\n".join([*lines, "", f"Data set hash {first['data']['hash']}. {versions}.", ""])


def spread(values: list[float], digits: int = 1) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.{digits}f} ± {deviation:.{digits}f}"


def cores() -> str:
    machine = f"{os.cpu_count()} cores ({platform.machine()})"
    return f"{machine}, {platform.system()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
