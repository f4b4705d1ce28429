"""Prediction files: what a server would refuse, found before it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from saga_ray.composed.benchmarks.base.queries import Benchmark, Query

FEW = 5
"""Queries that a sentence names."""


@dataclass(frozen=True)
class Sheet:
    """A prediction file, taken apart by the benchmark that it is for."""

    queries: tuple[Query, ...]
    """Those that it must answer."""
    given: Mapping[str, Any]
    """Query id -> what the file has for it; picture ids as the benchmark writes them."""
    places: int
    """Names that each answer must have (or all there are, where the query ranks fewer)."""
    more: bool = False
    """Whether an answer may have more names than `places`."""
    from_members: bool = False
    """Whether an answer is of the query's `members` and not of its whole gallery."""


def problems(benchmark: Benchmark, sheet: Sheet) -> list[str]:
    """A sentence for everything that is wrong; none: the file is fit to send."""
    return [*_wrong_queries(sheet), *_wrong_answers(benchmark, sheet)]


def _wrong_queries(sheet: Sheet) -> Iterator[str]:
    wanted = [query.id for query in sheet.queries]
    missing = [query for query in wanted if query not in sheet.given]
    unknown = [query for query in sheet.given if query not in set(wanted)]
    if missing:
        yield f"{len(missing)} of {len(wanted)} queries have no answer ({_few(missing)})"
    if unknown:
        yield f"{len(unknown)} answers are to no query of the split ({_few(unknown)})"


def _wrong_answers(benchmark: Benchmark, sheet: Sheet) -> Iterator[str]:
    for query in sheet.queries:
        if query.id in sheet.given:
            answer = sheet.given[query.id]
            if not isinstance(answer, list) or not all(isinstance(each, str) for each in answer):
                yield f"query {query.id}: the answer is no list of picture ids"
            else:
                yield from (f"query {query.id}: {what}" for what in _wrong(benchmark, sheet, query, answer))


def _wrong(benchmark: Benchmark, sheet: Sheet, query: Query, answer: list[str]) -> Iterator[str]:
    known = query.members if sheet.from_members else benchmark.galleries[query.gallery].rows
    places = min(sheet.places, len(known) - sum(picture in known for picture in query.left_out))
    if len(answer) < places or (len(answer) > places and not sheet.more):
        yield f"{len(answer)} pictures, {places}{' or more' if sheet.more else ''} are wanted"
    twice = [picture for picture, count in Counter(answer).items() if count > 1]
    if twice:
        yield f"ranks a picture twice ({_few(twice)})"
    out = [picture for picture in query.left_out if picture in answer]
    if out:
        yield f"ranks its own reference ({_few(out)})"
    strange = [picture for picture in answer if picture not in known and picture not in out]
    if strange:
        yield f"names what is not in its {'subset' if sheet.from_members else 'gallery'} ({_few(strange)})"


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (", …" if len(names) > FEW else "")
