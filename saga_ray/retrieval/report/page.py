"""Writes the page: one HTML file that opens from disk and asks for nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saga_ray.files import write_text
from saga_ray.html import PAGE, environment
from saga_ray.retrieval.report import curves, pictures
from saga_ray.retrieval.report.answers import ReadableAnswer, readable
from saga_ray.retrieval.report.data import Answer, Attended, Omitted, ReportData, Rollout

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "style.css"
"""The look that all reports with pictures share."""
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class ShownAnswer:
    """A completion with its numbers and its text taken apart."""

    answer: Answer
    text: ReadableAnswer


def write_report(folder: Path, data: ReportData, *, verdict_key: str = "") -> Path:
    """Write ``folder/index.html``, whole or not at all; returns its path.

    `verdict_key` is that of the supervisor's answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = render(data, verdict_key)
    write_text(folder / PAGE, page)
    return folder / PAGE


def render(data: ReportData, verdict_key: str) -> str:
    """The page as text."""
    templates = environment(TEMPLATES)
    templates.filters |= {"picture": pictures.data_uri, "signed": signed, "minus": minus}
    templates.tests["omitted"] = lambda section: isinstance(section, Omitted)
    history = data.history
    seconds = [] if isinstance(history, Omitted) else curves.seconds_by_part(history)
    parts = dict.fromkeys(part for spent in seconds for part, _ in spent.parts)
    most = _most_attention(data.attention)
    return templates.get_template("page.html.jinja").render(
        data=data,
        style=STYLE.read_text(encoding="utf-8"),
        panels=history if isinstance(history, Omitted) else curves.panels(history),
        seconds=seconds,
        part_number={part: number for number, part in enumerate(parts)},
        most_attention=most,
        overlay=lambda picture, beta_N: pictures.data_uri(pictures.overlay(picture, beta_N, most)),
        shown_answers=lambda rollout: _shown(rollout, verdict_key),
        changed=_settings(data, changed=True),
        unchanged=_settings(data, changed=False),
        best=_best_cells(data.table.rows),
    )


def signed(number: float) -> str:
    """A number with two decimals and its sign."""
    return minus(f"{number:+.2f}")


def minus(text: str) -> str:
    """A number's text with a true minus sign."""
    return text.replace("-", MINUS) if text[:1] == "-" else text


def _shown(rollout: Rollout, verdict_key: str) -> list[ShownAnswer]:
    return [ShownAnswer(answer, readable(answer.text, verdict_key)) for answer in rollout.answers]


def _settings(data: ReportData, *, changed: bool) -> list[tuple[str, str, str]]:
    """(name, value, default) of the settings that differ from their defaults, or of those that do not."""
    return [
        (name, value, data.defaults.get(name, ""))
        for name, value in data.settings.items()
        if (value != data.defaults.get(name)) == changed
    ]


def _most_attention(attention: Sequence[Attended] | Omitted) -> float:
    """Top of the colour scale: the strongest attention shown, in multiples of the uniform 1/N; at least 2."""
    if isinstance(attention, Omitted):
        return 2.0
    peaks = [float(np.max(beta_N)) * len(beta_N) for shown in attention for beta_N in shown.arms.values()]
    return max([2.0, *peaks])


def _best_cells(rows: Sequence[tuple[str, Sequence[str]]]) -> set[tuple[int, int]]:
    """(row, column) of the highest number of each column, where it is one row's alone."""
    best: set[tuple[int, int]] = set()
    for column in range(len(rows[0][1]) if len(rows) > 1 else 0):
        cells: list[tuple[float, int]] = [
            (float(cells[column]), row) for row, (_, cells) in enumerate(rows) if cells[column]
        ]
        top = max(cells, default=(0.0, 0))[0]
        winners = [row for value, row in cells if value == top]
        if len(cells) > 1 and len(winners) == 1:
            best.add((winners[0], column))
    return best
