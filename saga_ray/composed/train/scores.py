"""An embedder on the source's own queries: looked at while it trains, and scored when a stage has ended."""

from __future__ import annotations

from pathlib import Path

from saga_ray.composed.benchmarks import Benchmark
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.evaluation import best_text_weight, evaluate
from saga_ray.composed.query_embeddings import COMPOSED
from saga_ray.composed.result import CirResult
from saga_ray.config.composed import LOOKS, ComposedSettings

TEXT_WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of which the baseline image + text gets the best, by validation queries."""


def look(embedder: Embedder, validation: Benchmark, settings: ComposedSettings) -> dict[str, float]:
    """Composed queries with the embedder as it is now, which goes on training afterwards."""
    found = evaluate(
        embedder, validation, settings=settings.evaluation, local=True, seed=settings.seed
    ).measures[COMPOSED]
    embedder.train()
    return {f"validation/{name}": found[name] for name in LOOKS}


def score(
    model: Path,
    queries: Benchmark,
    validation: Benchmark | None,
    settings: ComposedSettings,
    output: Path | None = None,
) -> CirResult:
    """The embedder in a folder beside its baselines; `output` gets a report."""
    return evaluate(
        model,
        queries,
        output=output,
        text_weight=_text_weight(model, validation, settings),
        settings=settings.evaluation,
        gpus=settings.train.gpus_per_worker,
        seed=settings.seed,
    )


def _text_weight(model: Path, validation: Benchmark | None, settings: ComposedSettings) -> float:
    """The text's share with which the sum of image and text finds most on validation queries; an even one
    where there are none."""
    if validation is None:
        return 0.5
    return best_text_weight(
        model,
        validation,
        TEXT_WEIGHTS,
        settings=settings.evaluation,
        gpus=settings.train.gpus_per_worker,
        seed=settings.seed,
    )
