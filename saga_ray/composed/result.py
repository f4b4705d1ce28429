"""What an evaluation on a benchmark of composed retrieval gives: `result.json`."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from saga_ray.retrieval.record import Number, Record

RESULT = "result.json"
COUNTS = ("queries", "queries_left_out")
"""What `measures` holds beside fractions."""


class EmbedderRecord(Record):
    """Which embedder."""

    folder: str | None = Field(description="none: one in memory")
    hash: str | None = Field(description="SHA-256 over its files")
    size: Number = Field(description="E: numbers of an embedding that were compared")
    width: Number = Field(description="numbers of a whole embedding")


class BenchmarkRecord(Record):
    """Which questions about which pictures."""

    name: str
    split: str
    protocol: str
    folder: str = Field(description="the folder below which all of its pictures are")
    hash: str = Field(description="SHA-256 over queries and pictures")
    queries: Number
    galleries: dict[str, Number] = Field(description="name -> pictures")
    kinds: dict[str, Number] = Field(description="kind, or semantic aspect -> queries; empty: none are named")
    counts: dict[str, Number] = Field(description="what is odd in the release and how often")
    differs: list[str] = Field(description="where it is not of the official sizes, a sentence each")


class CirResult(Record):
    """One embedder on one split of one benchmark."""

    benchmark: BenchmarkRecord
    embedder: EmbedderRecord
    measures: dict[str, dict[str, float]] = Field(
        description="way of embedding a query -> measure -> fraction; empty where the targets are hidden"
    )
    predictions: dict[str, list[str]] = Field(
        description="way -> files for the benchmark's server, in this folder; empty: none were needed"
    )
    text_weight: float = Field(description="the text's share in image_and_text")
    seed: int = Field(description="of the lot that decides ties")
    computed: Number = Field(description="pictures that were embedded now and not found in the cache")
    seconds: dict[str, float]
    versions: dict[str, str]


def headline(measures: Mapping[str, float]) -> list[str]:
    """The measures over all queries."""
    return [name for name in measures if name not in COUNTS and "/" not in name]


def of_kinds(measures: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Measure -> kind -> fraction, for the measures that are given by kind."""
    found: dict[str, dict[str, float]] = {}
    for name, value in measures.items():
        measure, slash, kind = name.partition("/")
        if slash:
            found.setdefault(measure, {})[kind] = value
    return found


def heading(measure: str) -> str:
    """A measure's name as tables have it: R@1, Rs@1 (of CIRR's subset), mAP@5."""
    if measure == "summary":
        return "(R@5+Rs@1)/2"
    for name, short in (("recall_subset@", "Rs@"), ("recall@", "R@"), ("map@", "mAP@")):
        if measure.startswith(name):
            return short + measure.removeprefix(name)
    return measure
