"""The sweep report's pictures, as SVG: best so far, parallel coordinates, the measure over each setting."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup, escape

from saga_ray.config.sweep import Choice, SweepSettings
from saga_ray.retrieval.report.chart import nice_ticks
from saga_ray.tune.importance import place
from saga_ray.tune.result import TrialResult
from saga_ray.tune.watch import shown

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 210, 46, 14, 12, 34
AXIS = 150
"""Between two axes of the parallel coordinates."""


class _Scale:
    """From a measure to a height, between round numbers."""

    def __init__(self, values: Sequence[float], top: float, bottom: float) -> None:
        low, high = min(values), max(values)
        spare = (high - low or abs(high) or 1.0) * 0.08
        self.ticks = nice_ticks(low - spare, high + spare)
        self.decimals = _decimals(100 * (self.ticks[1] - self.ticks[0]))
        self.low, self.high = min(low - spare, self.ticks[0]), max(high + spare, self.ticks[-1])
        self.top, self.bottom = top, bottom

    def y(self, value: float) -> float:
        return self.bottom - (value - self.low) / (self.high - self.low) * (self.bottom - self.top)

    def label(self, tick: float) -> str:
        """A tick in per cent, told from its neighbours."""
        return f"{100 * tick:.{self.decimals}f}"

    def axis(self, left: float, right: float) -> str:
        """Lines and numbers, in per cent."""
        return "".join(
            f'<line class="grid" x1="{left}" x2="{right}" y1="{self.y(tick):.1f}" y2="{self.y(tick):.1f}"/>'
            f'<text x="{left - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{self.label(tick)}</text>'
            for tick in self.ticks
        )


def _decimals(step: float) -> int:
    """As many as a tick's step has: none for 5, two for 0.25; six at most."""
    return next((count for count in range(6) if math.isclose(round(step, count), step, rel_tol=1e-6)), 6)


def best_so_far(trials: Sequence[TrialResult], mode: str) -> Markup:
    """Every trial's measure in the order in which they began, and the best of those that have finished."""
    scored = [(number, trial) for number, trial in enumerate(trials, 1) if trial.value is not None]
    scale = _Scale([trial.value or 0.0 for _, trial in scored], TOP, HEIGHT - BOTTOM)

    def x(number: int) -> float:
        return LEFT + 10 + (number - 1) / max(1, len(trials) - 1) * (WIDTH - LEFT - RIGHT - 20)

    best: float | None = None
    line = []
    for number, trial in scored:
        if trial.status == "finished" and trial.value is not None:
            better = best is None or (trial.value > best if mode == "max" else trial.value < best)
            best = trial.value if better else best
        if best is not None:
            line.append(f"{x(number):.1f},{scale.y(best):.1f}")
    dots = "".join(
        f'<circle class="{trial.status}" cx="{x(number):.1f}" cy="{scale.y(trial.value or 0.0):.1f}" r="4">'
        f"<title>{_about(number, trial)}</title></circle>"
        for number, trial in scored
    )
    labels = "".join(
        f'<text x="{x(number):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{number}</text>'
        for number in sorted({1, len(trials)})
    )
    return _svg(
        WIDTH,
        HEIGHT,
        "Best so far",
        scale.axis(LEFT, WIDTH - RIGHT) + f'<polyline class="best" points="{" ".join(line)}"/>{dots}{labels}',
    )


def over_setting(sweep: SweepSettings, name: str, trials: Sequence[TrialResult]) -> Markup:
    """The measure over one setting's values; a line through the means where values repeat."""
    scored = [trial for trial in trials if trial.value is not None and name in trial.values]
    scale = _Scale([trial.value or 0.0 for trial in scored], TOP, HEIGHT - BOTTOM)

    def x(trial: TrialResult) -> float:
        return LEFT + 16 + place(sweep, name, trial) * (WIDTH - LEFT - RIGHT - 32)

    at: dict[float, list[float]] = {}
    for trial in scored:
        if trial.status == "finished":
            at.setdefault(x(trial), []).append(trial.value or 0.0)
    means = [(each, sum(values) / len(values)) for each, values in sorted(at.items())]
    line = " ".join(f"{each:.1f},{scale.y(mean):.1f}" for each, mean in means)
    repeats = any(len(values) > 1 for values in at.values())
    dots = "".join(
        f'<circle class="{trial.status}" cx="{x(trial):.1f}" cy="{scale.y(trial.value or 0.0):.1f}" r="4">'
        f"<title>{escape(name)} = {escape(shown(trial.values[name]))}: {100 * (trial.value or 0.0):.2f}"
        "</title></circle>"
        for trial in scored
    )
    return _svg(
        WIDTH,
        HEIGHT,
        name,
        scale.axis(LEFT, WIDTH - RIGHT)
        + (f'<polyline class="best" points="{line}"/>' if repeats else "")
        + dots
        + _ends(sweep, name, LEFT + 16, WIDTH - RIGHT - 16),
    )


def parallel(sweep: SweepSettings, trials: Sequence[TrialResult]) -> Markup:
    """A line a trial through its values to its measure; the better, the stronger."""
    names = list(sweep.parameters)
    scored = [trial for trial in trials if trial.value is not None]
    width, height = LEFT + AXIS * len(names) + 60, 300
    scale = _Scale([trial.value or 0.0 for trial in scored], 40, height - 30)
    order = sorted(scored, key=lambda trial: trial.value or 0.0, reverse=sweep.mode == "min")

    def y(name: str, trial: TrialResult) -> float:
        return height - 30 - place(sweep, name, trial) * (height - 70)

    lines = ""
    for rank, trial in enumerate(order):
        strength = (rank + 1) / len(order)
        points = [(LEFT + AXIS * at, y(name, trial)) for at, name in enumerate(names) if name in trial.values]
        points.append((LEFT + AXIS * len(names), scale.y(trial.value or 0.0)))
        path = " ".join(f"{x:.1f},{height_:.1f}" for x, height_ in points)
        lines += (
            f'<polyline class="way" style="opacity:{0.12 + 0.88 * strength**3:.2f}" points="{path}">'
            f"<title>{100 * (trial.value or 0.0):.2f}</title></polyline>"
        )
    axes = ""
    for at, name in enumerate([*names, sweep.metric]):
        x = LEFT + AXIS * at
        anchor = "start" if at == 0 else "end" if at == len(names) else "middle"
        axes += (
            f'<line class="axis" x1="{x}" x2="{x}" y1="40" y2="{height - 30}"/>'
            f'<text class="name" x="{x}" y="16" text-anchor="{anchor}">{escape(name)}</text>'
        )
        if name in sweep.parameters:
            low, high = _reach(sweep, name)
            axes += f'<text x="{x + 5}" y="{height - 32}">{escape(low)}</text>'
            axes += f'<text x="{x + 5}" y="46">{escape(high)}</text>'
    right = LEFT + AXIS * len(names)
    axes += "".join(
        f'<text x="{right + 6}" y="{scale.y(tick) + 4:.1f}">{scale.label(tick)}</text>'
        for tick in scale.ticks
    )
    return _svg(width, height, "Parallel coordinates", lines + axes)


def _ends(sweep: SweepSettings, name: str, left: float, right: float) -> str:
    parameter = sweep.parameters[name]
    if isinstance(parameter, Choice):
        last = len(parameter.values) - 1
        gap = (right - left) / max(1, last)
        anchors = {0: "start", last: "end"} if last else {}
        return "".join(
            f'<text x="{left + gap * at:.1f}" y="{HEIGHT - 14}" text-anchor="{anchors.get(at, "middle")}">'
            f"{escape(shown(value))}</text>"
            for at, value in enumerate(parameter.values)
        )
    low, high = _reach(sweep, name)
    log = " (log)" if parameter.kind == "log-uniform" else ""
    return (
        f'<text x="{left}" y="{HEIGHT - 14}" text-anchor="start">{low}</text>'
        f'<text x="{right}" y="{HEIGHT - 14}" text-anchor="end">{high}{log}</text>'
    )


def _reach(sweep: SweepSettings, name: str) -> tuple[str, str]:
    parameter = sweep.parameters[name]
    if isinstance(parameter, Choice):
        return shown(parameter.values[0]), shown(parameter.values[-1])
    return shown(parameter.low), shown(parameter.high)


def _about(number: int, trial: TrialResult) -> Markup:
    values = ", ".join(f"{name} = {shown(value)}" for name, value in trial.values.items())
    return escape(f"trial {number}, {trial.status}: {100 * (trial.value or 0.0):.2f}; {values}")


def _svg(width: float, height: float, title: str, inner: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" '
        f'style="max-width:{1.4 * width:g}px">{inner}</svg>'
    )
