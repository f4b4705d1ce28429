"""A small line chart as SVG. Colours come from the page's style sheet, by arm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 10, 24  # of the frame within the drawing
MOST_POINTS = 300  # more would only weigh
SMOOTH_ABOVE = 25  # points: fewer are shown as they are, with dots
SMOOTH_SHARE = 0.05  # of a curve's length under the running mean


@dataclass(frozen=True)
class Curve:
    """One line: an arm's values over its steps."""

    arm: str
    name: str
    dashed: bool
    steps: Sequence[float]
    values: Sequence[float]


@dataclass(frozen=True)
class _Frame:
    """Maps steps and values to places in the drawing."""

    left: float
    right: float
    low: float
    high: float

    def x(self, step: float) -> float:
        return LEFT + (step - self.left) / ((self.right - self.left) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        part = (value - self.low) / ((self.high - self.low) or 1.0)
        return HEIGHT - BOTTOM - min(max(part, 0.0), 1.0) * (HEIGHT - TOP - BOTTOM)

    def path(self, steps: NDArray[np.float64], values: NDArray[np.float64]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(steps, values, strict=True))


def draw(
    title: str,
    curves: Sequence[Curve],
    *,
    between: tuple[float, float] | None = None,
    zero: bool = False,
    noisy: bool = True,
) -> Markup:
    """The chart: a faint line of noisy numbers and a strong one of their running mean; few are dots.

    `between` fixes the vertical axis, `zero` puts zero on it.
    """
    thinned = [_thin(np.asarray(curve.steps, float), np.asarray(curve.values, float)) for curve in curves]
    smooth = [_running_mean(values) if noisy else values for _, values in thinned]
    low, high = between or _reach(thinned, smooth, zero)
    ticks = nice_ticks(low, high)
    if between is None:
        low, high = min(low, ticks[0]), max(high, ticks[-1])
    frame = _Frame(min(steps[0] for steps, _ in thinned), max(steps[-1] for steps, _ in thinned), low, high)
    parts = [_grid(frame, ticks), *_step_axis(frame)]
    for curve, (steps, values), means in zip(curves, thinned, smooth, strict=True):
        dash = " dashed" if curve.dashed else ""
        if len(steps) > SMOOTH_ABOVE and noisy:
            parts.append(_line(curve.arm, f"raw{dash}", frame.path(steps, values)))
        if len(steps) <= SMOOTH_ABOVE:
            parts += [_dot(curve.arm, frame.x(x), frame.y(y)) for x, y in zip(steps, values, strict=True)]
        parts.append(_line(curve.arm, f"mean{dash}", frame.path(steps, means)))
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img"><title>{}</title>{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def nice_ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers from below `low` to above `high`, about `wanted` steps apart."""
    span = high - low if high > low else abs(high) or 1.0
    rough = span / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def short(value: float) -> str:
    """A tick's label: at most three digits that count."""
    if value == 0:
        return "0"
    if abs(value) < 1e-3 or abs(value) >= 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("-", "\N{MINUS SIGN}")
    return f"{value:.3g}".replace("-", "\N{MINUS SIGN}")


def _thin(
    steps: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of neighbouring points where there are too many."""
    if len(steps) <= MOST_POINTS:
        return steps, values
    groups = np.array_split(np.arange(len(steps)), MOST_POINTS)
    return np.array([steps[g].mean() for g in groups]), np.array([values[g].mean() for g in groups])


def _running_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    if len(values) <= SMOOTH_ABOVE:
        return values
    half = max(1, round(len(values) * SMOOTH_SHARE / 2))
    total = np.concatenate([[0.0], np.cumsum(values)])
    index = np.arange(len(values))
    start, stop = np.maximum(index - half, 0), np.minimum(index + half + 1, len(values))
    means: NDArray[np.float64] = (total[stop] - total[start]) / (stop - start)
    return means


def _reach(
    thinned: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]],
    smooth: Sequence[NDArray[np.float64]],
    zero: bool,
) -> tuple[float, float]:
    """Lowest and highest value of interest: all means, and the numbers but for their wildest hundredth."""
    values = np.concatenate([part for _, part in thinned])
    means = np.concatenate(list(smooth))
    low = float(min(np.quantile(values, 0.01), means.min()))
    high = float(max(np.quantile(values, 0.99), means.max()))
    return (min(low, 0.0), max(high, 0.0)) if zero else (low, high)


def _grid(frame: _Frame, ticks: Sequence[float]) -> Markup:
    lines = []
    for tick in ticks:
        if frame.low - 1e-9 <= tick <= frame.high + 1e-9:
            y = f"{frame.y(tick):.1f}"
            kind = "zero" if tick == 0 else "grid"
            lines.append(
                Markup('<line class="{}" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                    kind, LEFT, WIDTH - RIGHT, y, y
                )
            )
            lines.append(
                Markup('<text class="tick" x="{}" y="{}" dy="3.5" text-anchor="end">{}</text>').format(
                    LEFT - 6, y, short(tick)
                )
            )
    return Markup("").join(lines)


def _step_axis(frame: _Frame) -> list[Markup]:
    ticks = [tick for tick in nice_ticks(frame.left, frame.right) if frame.left <= tick <= frame.right]
    return [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>').format(
            f"{frame.x(tick):.1f}", HEIGHT - 7, short(tick)
        )
        for tick in ticks
    ]


def _line(arm: str, kind: str, points: str) -> Markup:
    return Markup('<polyline class="{} arm-{}" points="{}"/>').format(kind, escape(arm), points)


def _dot(arm: str, x: float, y: float) -> Markup:
    return Markup('<circle class="dot arm-{}" cx="{}" cy="{}" r="2"/>').format(arm, f"{x:.1f}", f"{y:.1f}")
