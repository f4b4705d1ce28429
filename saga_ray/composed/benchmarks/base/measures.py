"""Measures over rankings of ids, as fractions. Q queries; a ranking lists ids, best first."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import numpy as np

from saga_ray.composed.benchmarks.base.queries import Benchmark, Query
from saga_ray.composed.benchmarks.base.ranking import Ranking
from saga_ray.errors import UserError

Pairs = Sequence[tuple[Query, Ranking]]


def paired(benchmark: Benchmark, rankings: Iterable[Ranking]) -> list[tuple[Query, Ranking]]:
    """Every query with its ranking, in the benchmark's order. Raises UserError unless each has one."""
    given = list(rankings)
    by_query = {ranking.query: ranking for ranking in given}
    wanted = {query.id for query in benchmark.queries}
    counted = Counter(ranking.query for ranking in given)
    faults = {
        "have more than one ranking": [query for query, count in counted.items() if count > 1],
        "have no ranking": sorted(wanted - by_query.keys()),
        "are not of the split": sorted(by_query.keys() - wanted),
    }
    for what, queries in faults.items():
        if queries:
            raise UserError(
                f"{benchmark.name} {benchmark.split}: {len(queries)} queries {what}, such as {queries[0]}; "
                "rank each query of the split once"
            )
    return [(query, by_query[query.id]) for query in benchmark.queries]


def is_found(ranking: Sequence[str], right: Collection[str], k: int) -> bool:
    """Whether one of the right ones is among the first k."""
    return any(picture in right for picture in ranking[:k])


def average_precision_at(ranking: Sequence[str], right: Collection[str], k: int) -> float:
    """sum_{i<=k} precision(i) relevant(i) / min(number of right ones, k)."""
    hits = np.array([picture in right for picture in ranking[:k]], dtype=np.float64)
    precision = hits.cumsum() / np.arange(1, len(hits) + 1)
    return float((precision * hits).sum() / min(len(right), k))


def recalls(pairs: Pairs, ks: Iterable[int]) -> dict[str, float]:
    """`recall@k`: share of queries with one of their targets among the k nearest."""
    return {
        f"recall@{k}": float(
            np.mean([is_found(ranking.nearest, query.targets, k) for query, ranking in pairs])
        )
        for k in ks
    }


def by_kind(pairs: Pairs) -> dict[str, list[tuple[Query, Ranking]]]:
    """The pairs of each kind, in the order of their first query."""
    kinds: dict[str, list[tuple[Query, Ranking]]] = defaultdict(list)
    for query, ranking in pairs:
        kinds[query.kind].append((query, ranking))
    return dict(kinds)


def mean_over_kinds(pairs: Pairs, measure: Callable[[Pairs], Mapping[str, float]]) -> dict[str, float]:
    """Each measure's mean over kinds, every kind weighing the same; then `measure/kind` for each kind."""
    each = {kind: measure(own) for kind, own in by_kind(pairs).items()}
    names = next(iter(each.values()))
    return {name: float(np.mean([measures[name] for measures in each.values()])) for name in names} | {
        f"{name}/{kind}": measures[name] for kind, measures in each.items() for name in names
    }
