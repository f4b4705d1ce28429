"""Writes the page: one HTML file that opens from disk and asks for nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from saga_ray.composed.benchmarks import Benchmark, Picture, Query, load
from saga_ray.composed.query_embeddings import COMPOSED, WAYS
from saga_ray.composed.report.choose import SHOWN, balanced, choose, kind_of
from saga_ray.composed.result import CirResult, heading, headline, of_kinds
from saga_ray.composed.scoring import Ranked, right_pictures
from saga_ray.data.decoding import centre_square
from saga_ray.files import write_text
from saga_ray.html import PAGE, environment
from saga_ray.retrieval.report.page import STYLE
from saga_ray.retrieval.report.pictures import LARGEST, data_uri

TEMPLATES = Path(__file__).parent / "templates"
QUERIES = 12
"""Shown of those that were found, and as many of those that were missed."""


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    picture: Markup
    id: str
    mark: str
    """right, wrong, or none where the targets are hidden."""


@dataclass(frozen=True)
class ShownQuery:
    """A query with its first results and, where none of these is right, the right one that comes first."""

    reference: Shown
    instruction: str
    kind: str
    nearest: list[Shown]
    target: Shown | None
    place: int | None
    """The target's."""


def write_cir_report(
    folder: Path,
    result: CirResult,
    benchmark: Benchmark,
    ranked: Mapping[str, Ranked],
    *,
    queries: int = QUERIES,
) -> Path:
    """Write ``folder/index.html``, whole or not at all; returns its path.

    `queries` are shown of those that the composed query finds among the first `SHOWN` results, and as many of
    those that it misses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    composed = ranked[COMPOSED]
    templates = environment(TEMPLATES)
    templates.filters |= {
        "percent": lambda value: f"{100 * value:.1f}",
        "number": lambda value: f"{value:,}",
        "plain": lambda name: name.replace("_", " "),
        "heading": heading,
    }
    if benchmark.has_targets:
        chosen = choose(benchmark.queries, composed.best, queries, seed=result.seed)
        sections = [
            ("Found", "a right picture", chosen.found_of_all, chosen.found),
            ("Missed", "no right picture", chosen.missed_of_all, chosen.missed),
        ]
    else:
        every = list(range(len(benchmark.queries)))
        sections = [
            ("Queries", "", len(every), balanced(benchmark.queries, every, queries, seed=result.seed))
        ]
    measured = result.measures.get(COMPOSED, {})
    page = templates.get_template("cir.html.jinja").render(
        result=result,
        style=STYLE.read_text(encoding="utf-8"),
        facts=_facts(result),
        ways=WAYS,
        columns=headline(measured),
        best=_best_ways(result),
        by_kind={measure: list(kinds) for measure, kinds in of_kinds(measured).items()},
        shown=SHOWN,
        sections=[
            (title, what, of_all, [_shown(benchmark, composed, place) for place in places])
            for title, what, of_all, places in sections
        ],
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _facts(result: CirResult) -> list[tuple[str, str]]:
    asked, embedder = result.benchmark, result.embedder
    galleries = asked.galleries
    pictures = f"{sum(galleries.values()):,}"
    if len(galleries) > 1:
        pictures += " in " + ", ".join(f"{name} {count:,}" for name, count in galleries.items())
    cut = "" if embedder.size == embedder.width else f", the first of {embedder.width:,}"
    return [
        ("Split, protocol", f"{asked.split}, {asked.protocol}"),
        ("Queries", f"{asked.queries:,}"),
        ("Gallery pictures", pictures),
        ("Numbers of an embedding", f"{embedder.size:,}{cut}"),
        ("Embedder", embedder.folder or "in memory"),
        ("Pictures below", asked.folder),
        ("Seconds", f"{result.seconds['total']:,.0f}; {result.computed:,} pictures embedded anew"),
        ("Seed of ties and samples", str(result.seed)),
        *(
            (name.replace("_", " ").capitalize(), f"{count:,}")
            for name, count in asked.counts.items()
            if count
        ),
    ]


def _best_ways(result: CirResult) -> dict[str, str]:
    """Measure -> the way that has the highest number, where it is one's alone."""
    best = {}
    for name in next(iter(result.measures.values()), {}):
        top = max(measured[name] for measured in result.measures.values())
        winners = [way for way, measured in result.measures.items() if measured[name] == top]
        if len(winners) == 1:
            best[name] = winners[0]
    return best


def _shown(benchmark: Benchmark, ranked: Ranked, place: int) -> ShownQuery:
    query = benchmark.queries[place]
    gallery = benchmark.galleries[query.gallery]
    nearest = ranked.rankings[place].nearest[:SHOWN]
    best = ranked.best[place]
    right = set(right_pictures(query))

    def shown(id: str) -> Shown:
        mark = "" if not right else "right" if id in right else "wrong"
        return Shown(_uri(gallery.pictures[gallery.rows[id]]), id, mark)

    missed = best if best is not None and best[1] > SHOWN else None
    return ShownQuery(
        reference=Shown(_uri(query.reference), query.reference.id, ""),
        instruction=_instruction(query),
        kind=kind_of(query),
        nearest=[shown(id) for id in nearest],
        target=None if missed is None else shown(missed[0]),
        place=None if missed is None else missed[1],
    )


def _instruction(query: Query) -> str:
    # the others say the same in another order
    return query.instructions[0].strip() or "(no instruction)"


def _uri(picture: Picture) -> Markup:
    return data_uri(centre_square(load(picture, LARGEST), LARGEST))
