"""A table as it is filled in: Markdown whose columns are aligned, so that it reads as well on a terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from saga_ray.plan.hardware import Speed
from saga_ray.reproduce.found import Progress, State
from saga_ray.reproduce.needs import Need
from saga_ray.reproduce.tables import Paper, Table
from saga_ray.train.result import ArmResult

MEASURES = (("R@1", "recall_at_1"), ("R@4", "recall_at_4"))
RIGHT = ("R@1", "R@4", "paper")
"""Columns of numbers."""


@dataclass(frozen=True)
class Shown:
    """Which part of which paper's table."""

    paper: Paper
    table: Table
    data: Sequence[str]
    model: str
    seeds: Sequence[int]


def markdown(shown: Shown, progress: Sequence[Progress], command: str) -> str:
    """The file of a table."""
    paper = shown.paper
    return "\n".join(
        [
            f"# {paper.title} ({paper.source}): {shown.table.title}",
            "",
            *table_lines(shown, progress),
            "",
            *reading(shown),
            "",
            *(f"- {line}" for line in run_lines(progress)),
            "",
            f"Made by `{command}`; the same command goes on.",
            "",
        ]
    )


def table_lines(shown: Shown, progress: Sequence[Progress]) -> list[str]:
    """The table: a line a data set and row, ours beside the paper's, and the runs that it comes from."""
    lines = [["data", "row", *(cell for name, _ in MEASURES for cell in (name, "paper")), "runs"]]
    for data in shown.data:
        for name in shown.table.rows:
            row = shown.paper.rows[name]
            own = [each for each in progress if each.run.data == data and name in each.run.rows]
            measured = [found for each in own if (found := each.measured(row.arm)) is not None]
            given = [f"{number:.1f}" for number in shown.paper.numbers(name, data, shown.model)]
            cells = [shown.paper.data[data], row.title]
            for place, (_, field) in enumerate(MEASURES):
                cells += [_ours(measured, field), given[place] if place < len(given) else ""]
            lines.append([*cells, _runs(own)])
    return _aligned(lines)


def reading(shown: Shown) -> list[str]:
    """How to read the table."""
    seeds = ", ".join(map(str, shown.seeds))
    ours = (
        f"the mean over the seeds {seeds}, ± their standard deviation"
        if len(shown.seeds) > 1
        else f"of seed {seeds}"
    )
    whose = shown.paper.model
    other = "" if shown.model == whose else f", and these runs are of {shown.model}: none is shown"
    return [
        f"Per cent over the unseen classes, each picture a query to all the others; ours is {ours}.",
        f"The paper's numbers are of {whose}{other}.",
    ]


def run_lines(progress: Sequence[Progress]) -> list[str]:
    """What has become of each run, and where it is."""
    return [f"run {each.number} {each.state}: {each.error or each.folder}" for each in progress]


def need_lines(progress: Progress, counted: Need | str, speed: Speed) -> list[str]:
    """A run that would be submitted: its preset and arms, what it needs, its overrides."""
    run = progress.run
    if isinstance(counted, str):
        needs = f"not counted: {counted}"
    else:
        gpu = speed.gpu
        needs = (
            f"{counted.gpus} x {gpu.name} ({counted.split}), {counted.peak_gib:.0f} of {gpu.memory_gib:.0f} "
            f"GiB, {hours(*counted.hours)}"
        )
    state = "" if progress.state == "to come" else f", {progress.state}"
    head = f"run {progress.number:<3} {run.preset}, seed {run.seed}: {', '.join(run.arms)}{state}"
    return [head, f"        {needs}", *(f"        --set {change}" for change in run.changes)]


def total_lines(progress: Sequence[Progress], needs: Sequence[Need | str], speed: Speed) -> list[str]:
    """What the runs that have not finished come to, and what the figures assume."""
    left = [need for each, need in zip(progress, needs, strict=True) if each.state != "finished"]
    counted = [need for need in left if not isinstance(need, str)]
    low, high = (sum(need.hours[end] for need in counted) for end in (0, 1))
    gpu_low, gpu_high = (sum(need.gpus * need.hours[end] for need in counted) for end in (0, 1))
    unknown = f", without {len(left) - len(counted)} not counted" if len(counted) < len(left) else ""
    return [
        f"{len(left)} of {len(progress)} runs to do: {hours(low, high)} one after another; times their GPUs: "
        f"{hours(gpu_low, gpu_high)}{unknown}",
        "Memory is the most of a GPU; hours are training's. Both are the cost model's, as in `saga plan`, "
        "and were never compared",
        f"with a run: {speed.utilisation:.0%} of the arithmetic, {speed.bandwidth:.0%} of the bandwidth, "
        "half of the pairs informative, the longest answers.",
    ]


def hours(low: float, high: float) -> str:
    """A range of hours, in minutes where short, once where both ends print the same."""
    first, last = (f"{each:.1f} h" if each >= 1 else f"{60 * each:.1f} min" for each in (low, high))
    return first if first == last else f"{first} to {last}"


def _ours(measured: Sequence[ArmResult], field: str) -> str:
    """Mean and, of two seeds or more, the sample's standard deviation."""
    values = [100 * getattr(each, field) for each in measured]
    if not values:
        return ""
    mean = f"{statistics.mean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def _runs(progress: Sequence[Progress]) -> str:
    """Numbers of runs by their state; the finished ones are not said to be."""
    groups: dict[State, list[str]] = {}
    for each in progress:
        groups.setdefault(each.state, []).append(str(each.number))
    said = [
        ", ".join(numbers) + (f" {state}" if state != "finished" else "") for state, numbers in groups.items()
    ]
    return "; ".join(said)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    heads = lines[0]
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    right = [head in RIGHT for head in heads]
    made = [
        "| "
        + " | ".join(
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(line, widths, right, strict=True)
        )
        + " |"
        for line in lines
    ]
    rule = [
        f"{'-' * (width + 1)}:" if to_right else "-" * (width + 2)
        for width, to_right in zip(widths, right, strict=True)
    ]
    return [made[0], f"|{'|'.join(rule)}|", *made[1:]]
