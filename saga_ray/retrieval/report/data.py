"""What the report's page shows, as plain data: arrays, texts and numbers; nothing of Ray, no open files.

A section that a run cannot fill is given as `Omitted`, with the reason that the page then states.
Legend: H, W picture height and width, N patch tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # HWC, RGB


@dataclass(frozen=True)
class Omitted:
    """In place of a section: why it is not there."""

    reason: str


@dataclass(frozen=True)
class ResultTable:
    """Arms and their measures, as the cells of ``result.json``'s table."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[str]]]
    reading: Sequence[str]
    """Sentences on how to read it."""


@dataclass(frozen=True)
class Neighbour:
    """One answer to a query."""

    picture: Pixels
    label: str
    right: bool


@dataclass(frozen=True)
class Query:
    """A query with its nearest neighbours, best first, under either arm."""

    picture: Pixels
    label: str
    baseline: Sequence[Neighbour]
    challenger: Sequence[Neighbour]


@dataclass(frozen=True)
class Comparison:
    """Queries whose nearest neighbour is right under one arm alone."""

    baseline: str
    challenger: str
    won: Sequence[Query]
    """The challenger is right and the baseline wrong."""
    lost: Sequence[Query]
    won_of_all: int
    lost_of_all: int
    queries: int


@dataclass(frozen=True)
class Attended:
    """A picture and, for each arm, the pooler's attention over its patches (beta_N, row by row, sum 1)."""

    picture: Pixels
    label: str
    arms: Mapping[str, NDArray[np.floating[Any]]]


@dataclass(frozen=True)
class Answer:
    """One completion of a group."""

    text: str
    verdict: bool | None
    """What it says: same or not; None: unparsable."""
    reward: float
    advantage: float
    truncated: bool


@dataclass(frozen=True)
class Rollout:
    """A group: a pair of pictures, the target, and the supervisor's answers."""

    arm: str
    step: int
    picture_a: Pixels
    picture_b: Pixels
    label_a: str
    label_b: str
    same: bool
    answers: Sequence[Answer]


@dataclass(frozen=True)
class ReportData:
    """Everything on the page."""

    title: str
    note: str
    """What a reader must know about the pictures; empty: nothing."""
    facts: Sequence[tuple[str, str]]
    """Name and value: data, seed, time."""
    versions: Mapping[str, str]
    table: ResultTable
    rollout_table: ResultTable | Omitted
    """How the arms' rollouts went."""
    history: Mapping[str, Sequence[Mapping[str, Any]]] | Omitted
    """Arm -> its step records, as ``train.records`` makes them."""
    comparison: Comparison | Omitted
    attention: Sequence[Attended] | Omitted
    rollouts: Sequence[Rollout] | Omitted
    settings: Mapping[str, str]
    """``section.field`` -> text, as ``tracking.parameters`` makes it (without passwords)."""
    defaults: Mapping[str, str]
    """The same of a run without any changes, to tell what was changed."""
