"""What composed queries on the furniture set find in place of their target: another model, another colour?

    .venv/bin/python benchmarks/cir_mistakes.py RUN [RUN ...]

A run is a folder of `saga cir train furniture-cir`. For each, in per cent of its test queries after stage 2:
what the first answer shows. An answer in the wrong colour is to a query that was composed badly; one in the
right colour that shows another model is to a query whose picture was seen badly, and a sum of the embeddings
of both sees no better.
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq

from saga_ray.composed import sources
from saga_ray.composed.benchmarks import Benchmark
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.gallery import embed_pictures
from saga_ray.composed.query_embeddings import COMPOSED, embed_queries
from saga_ray.composed.scoring import Ranked, score
from saga_ray.config.settings import EmbeddingSettings
from saga_ray.data import furniture
from saga_ray.data.furniture.triplets import Thing, things
from saga_ray.train.folder import RunFolder

SHOWN = ("model and colour", "another model in the colour", "the model in another colour", "neither")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    args = parser.parse_args()
    benchmark = sources.queries("furniture", "test")
    assert benchmark is not None
    tables = (pq.read_table(table).to_pylist() for table in (furniture.PARQUET, furniture.COMPOSED))
    thing = {picture: each for _, each in things(*tables) for picture in each.pictures}
    for run in args.runs:
        embedder = Embedder.load(RunFolder(run).model("instruct")).eval()
        for kind, shown in shown_by_kind(benchmark, first_answers(benchmark, embedder), thing).items():
            parts = [f"{name} {100 * shown[name] / shown.total():.1f}" for name in SHOWN]
            print(f"{run.name} {kind:<10} {', '.join(parts)}", flush=True)


def first_answers(benchmark: Benchmark, embedder: Embedder) -> list[str]:
    """The picture that each composed query ranks first."""
    (gallery,) = benchmark.galleries.values()
    settings = EmbeddingSettings()
    embedded = embed_pictures(gallery.pictures, embedder, settings, local=True)
    references_QE = embedded.z_UE[[embedded.row_M[gallery.rows[q.reference.id]] for q in benchmark.queries]]
    z_QE = embed_queries(benchmark.queries, references_QE, embedder, settings, local=True)[COMPOSED]
    ranked: Ranked = score(benchmark, z_QE, embedded.z_UE, {gallery.name: embedded.row_M}, seed=0)
    return [ranking.nearest[0] for ranking in ranked.rankings]


def shown_by_kind(
    benchmark: Benchmark, answers: list[str], thing: dict[str, Thing]
) -> dict[str, Counter[str]]:
    """How often the first answers show what."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for query, answer in zip(benchmark.queries, answers, strict=True):
        wanted, got = thing[query.targets[0]], thing[answer]
        place = 2 * (got.colour != wanted.colour) + (got.label != wanted.label)
        found[query.kind or ""][SHOWN[place]] += 1
    return dict(found)


if __name__ == "__main__":
    main()
