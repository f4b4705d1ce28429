"""Which queries the page shows: drawn by lot from a seed, not by taste, as many of each kind as can be."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from saga_ray.composed.benchmarks import Query
from saga_ray.data.seeds import generator

SHOWN = 6
"""Results that the page shows of a query."""


@dataclass(frozen=True)
class Chosen:
    """Places of queries, in the order of the benchmark."""

    found: list[int]
    """A right picture is among the first `SHOWN`."""
    missed: list[int]
    found_of_all: int
    missed_of_all: int


def choose(
    queries: Sequence[Query], best: Sequence[tuple[str, int] | None], count: int, *, seed: int
) -> Chosen:
    """At most `count` found and as many missed; `best` as in `scoring.Ranked`."""
    found = [place for place, right in enumerate(best) if right is not None and right[1] <= SHOWN]
    hits = set(found)
    missed = [place for place in range(len(queries)) if place not in hits]
    return Chosen(
        found=balanced(queries, found, count, seed=seed),
        missed=balanced(queries, missed, count, seed=seed),
        found_of_all=len(found),
        missed_of_all=len(missed),
    )


def balanced(queries: Sequence[Query], places: Sequence[int], count: int, *, seed: int) -> list[int]:
    """At most `count` of the places: one of each kind in turn, within a kind by lot."""
    kinds: dict[str, list[int]] = defaultdict(list)
    for place in places:
        kinds[kind_of(queries[place])].append(place)
    drawn = [
        [own[draw] for draw in generator(seed, "shown queries", kind).permutation(len(own))]
        for kind, own in kinds.items()
    ]
    turns = [own[turn] for turn in range(count) for own in drawn if turn < len(own)]
    return sorted(turns[:count])


def kind_of(query: Query) -> str:
    """A query's kind, or its first semantic aspect; "" where the release names neither."""
    return query.kind or next(iter(query.aspects), "")
