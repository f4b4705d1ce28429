"""What a benchmark asks, and of which pictures: galleries and queries, as read from a release."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saga_ray.composed.benchmarks.base.pictures import Picture


@dataclass(frozen=True, eq=False)
class Gallery:
    """Pictures that are embedded once, in a fixed order: row m of a score array is `pictures[m]`."""

    name: str
    pictures: tuple[Picture, ...]

    def __post_init__(self) -> None:
        assert len(self.rows) == len(self.pictures), f"gallery {self.name} has an id twice"

    @cached_property
    def rows(self) -> dict[str, int]:
        """Picture id -> row."""
        return {picture.id: row for row, picture in enumerate(self.pictures)}

    @cached_property
    def place_M(self) -> NDArray[np.int64]:
        """Each row's place among the ids in alphabetical order: the same however the gallery is ordered."""
        place = np.empty(len(self.pictures), dtype=np.int64)
        place[sorted(range(len(place)), key=lambda row: self.pictures[row].id)] = np.arange(len(place))
        return place


@dataclass(frozen=True)
class Query:
    """One question, and its answers where the release tells them. Ids are of its gallery's pictures."""

    id: str
    gallery: str
    """Name of its gallery."""
    reference: Picture
    instructions: tuple[str, ...]
    """What to change. More than one says the same in another order: embed each, add, normalise."""
    targets: tuple[str, ...] = ()
    """Recall counts any of these; empty where the release hides them."""
    kind: str = ""
    """What part of the benchmark it belongs to: garment, task, the user's own word."""
    candidates: tuple[str, ...] | None = None
    """What it ranks, as listed, repetitions too; None: the whole gallery."""
    left_out: tuple[str, ...] = ()
    """Never ranked."""
    members: tuple[str, ...] = ()
    """A small subset that is ranked a second time on its own (CIRR)."""
    truths: tuple[str, ...] = ()
    """All right answers, for average precision (CIRCO)."""
    aspects: tuple[str, ...] = ()
    """What the instruction asks for, in the release's words (CIRCO)."""
    annotation: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The entry as the release has it."""


@dataclass(frozen=True, eq=False)
class Benchmark:
    """One split of a benchmark under one protocol. Made by `saga_ray.composed.benchmarks.read`."""

    name: str
    split: str
    protocol: str
    galleries: dict[str, Gallery]
    queries: tuple[Query, ...]
    differs: tuple[str, ...]
    """Where the root is not of the official sizes, a sentence each: its numbers stand beside no others."""
    counts: dict[str, int]
    """What is odd in the release and how often; see each benchmark's own words."""

    @property
    def has_targets(self) -> bool:
        """Whether the split can be scored here, and not by a server only."""
        return all(query.targets for query in self.queries)

    def candidate_rows(self, query: Query) -> NDArray[np.int64]:
        """The gallery's rows that a query ranks, its `left_out` gone."""
        gallery = self.galleries[query.gallery]
        if query.candidates is None:
            rows = np.arange(len(gallery.pictures))
        else:
            rows = np.array([gallery.rows[picture] for picture in query.candidates], dtype=np.int64)
        out = [gallery.rows[picture] for picture in query.left_out if picture in gallery.rows]
        return rows[~np.isin(rows, out)] if out else rows
