"""Which curves the page shows, and from which numbers of the step records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saga_ray.retrieval.report.chart import Curve, draw

Record = Mapping[str, Any]
History = Mapping[str, Sequence[Record]]


@dataclass(frozen=True)
class Line:
    """One quantity of a panel, drawn for every arm that logs it; `share_of` divides it by another one."""

    key: str
    name: str = ""
    dashed: bool = False
    share_of: str | None = None


@dataclass(frozen=True)
class Panel:
    """One small chart."""

    title: str
    note: str
    lines: tuple[Line, ...]
    between: tuple[float, float] | None = None
    """Fixed ends of the vertical axis; else as far as the numbers go."""
    zero: bool = False
    """Zero belongs on the vertical axis."""
    noisy: bool = True
    """The numbers scatter: their running mean is drawn over them."""


PANELS = (
    Panel("Metric loss", "over all pictures of the step", (Line("loss/metric"),)),
    Panel("GRPO loss", "a generated token; on policy it is near zero", (Line("loss/grpo"),), zero=True),
    Panel(
        "Attention distillation loss", "over rewarded completions", (Line("loss/distillation"),), zero=True
    ),
    Panel("Reward", "share of right verdicts among completions", (Line("rollout/reward"),), between=(0, 1)),
    Panel(
        "Informative groups",
        "share of groups whose rewards differ",
        (Line("rollout/informative_share"),),
        between=(0, 1),
    ),
    Panel(
        "Lost answers",
        "share of completions",
        (
            Line("rollout/unparsable", "unparsable", share_of="rollout/completions"),
            Line("rollout/truncated", "truncated", dashed=True, share_of="rollout/completions"),
        ),
        zero=True,
    ),
    Panel(
        "Gradient norms at the tokens",
        "weighted losses at X",
        (Line("gradient/tokens/metric", "metric"), Line("gradient/tokens/grpo", "GRPO", dashed=True)),
        zero=True,
    ),
    Panel(
        "Gradient cosine at the tokens", "metric loss with GRPO", (Line("gradient/tokens/cosine"),), zero=True
    ),
    Panel(
        "Gradient norms at the pooler",
        "weighted losses at q and Wₖ",
        (
            Line("gradient/attention/metric", "metric"),
            Line("gradient/attention/distillation", "distillation", dashed=True),
        ),
        zero=True,
    ),
    Panel(
        "Gradient cosine at the pooler",
        "metric loss with distillation",
        (Line("gradient/attention/cosine"),),
        zero=True,
    ),
    Panel("Learning rate", "share of each part's highest rate", (Line("rate"),), between=(0, 1), noisy=False),
    Panel("Supervisor's verdicts", "accuracy on fixed held-out pairs", (Line("verdict_accuracy"),)),
    Panel("Retrieval", "MAP@R over the validation classes", (Line("validation/map@r"),)),
)


@dataclass(frozen=True)
class DrawnPanel:
    """A panel as the template shows it."""

    title: str
    note: str
    legend: list[Line]
    svg: str


def panels(history: History) -> list[DrawnPanel]:
    """Every panel that some arm has numbers for."""
    drawn = []
    for panel in PANELS:
        curves = [
            Curve(arm, line.name, line.dashed, *points)
            for line in panel.lines
            for arm, records in history.items()
            if (points := _points(records, line))[0] and not _flat_zero(points[1], line)
        ]
        if curves:
            legend = [line for line in panel.lines if line.name]
            svg = draw(panel.title, curves, between=panel.between, zero=panel.zero, noisy=panel.noisy)
            drawn.append(DrawnPanel(panel.title, panel.note, legend, svg))
    return drawn


@dataclass(frozen=True)
class Seconds:
    """Where an arm's time went: mean seconds a step, by part."""

    arm: str
    step: float
    parts: list[tuple[str, float]]


def seconds_by_part(history: History) -> list[Seconds]:
    """Mean seconds of a step of each arm by part; what no part accounts for is `other`."""
    spent = []
    for arm, records in history.items():
        means = {
            name.removeprefix("seconds/"): sum(float(record.get(name, 0.0)) for record in records)
            / len(records)
            for name in dict.fromkeys(key for record in records for key in record)
            if name.startswith("seconds/")
        }
        if means:
            step = means.pop("step", sum(means.values()))
            rest = step - sum(means.values())
            if rest > 0.02 * step:
                means["other"] = rest
            spent.append(Seconds(arm, step, list(means.items())))
    return spent


def _points(records: Sequence[Record], line: Line) -> tuple[list[float], list[float]]:
    """Steps and values of the records that have the line's number."""
    steps, values = [], []
    for record in records:
        if line.key in record:
            value = float(record[line.key])
            if line.share_of is not None:
                value /= max(float(record.get(line.share_of, 0.0)), 1.0)
            if math.isfinite(value):
                steps.append(float(record["step"]) + 1)  # records count from 0, the reader from 1
                values.append(value)
    return steps, values


def _flat_zero(values: Sequence[float], line: Line) -> bool:
    """An arm without a loss logs zero gradients for it: no curve."""
    return line.key.startswith(("gradient/", "loss/")) and not any(values)
