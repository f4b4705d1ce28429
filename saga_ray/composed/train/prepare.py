"""All that a run needs, loaded and checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from saga_ray.composed import sources
from saga_ray.composed.benchmarks import Benchmark, triplets
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.examples import TrainingData
from saga_ray.composed.train.start import start_embedder
from saga_ray.config.composed import ComposedSettings
from saga_ray.errors import UserError

LONGEST = 50
"""So many texts, the longest by their letters, are tried against the model's context."""


@dataclass(frozen=True)
class Ready:
    """What `prepare` gives."""

    data: TrainingData
    validation: Benchmark | None
    """Queries by which a baseline's weight is chosen, and that are looked at during training."""
    scored: Benchmark | None
    """Queries of `evaluation.part`; none where the source has none."""


def prepare(settings: ComposedSettings) -> Ready:
    """Raises UserError where data, model and settings do not fit."""
    source = settings.data.source
    data = sources.load(source)
    require_examples(data, settings)
    _require_room(start_embedder(settings, None, settings.embedder.supervisor), data, settings)
    if settings.evaluation.validate_every:
        require_queries(source, "validation")
    scored = sources.queries(source, settings.evaluation.part)
    return Ready(data, sources.queries(source, "validation"), scored)


def require_queries(source: str, part: str) -> Benchmark:
    """A source's own queries of a part. Raises UserError where it has none."""
    found = sources.queries(source, part)
    if found is None:
        raise UserError(
            f"{source} has no {part} queries, so nothing can be scored on them: give some lines of its "
            f"{triplets.FILE_NAME} that have a target picture the split {part}"
        )
    return found


def require_examples(data: TrainingData, settings: ComposedSettings) -> None:
    """What each stage trains on must be there, more than one of it. Raises UserError."""
    instruct = settings.instruct
    for stage, steps, examples, what in (
        ("align", settings.align.steps, data.captioned, "captions"),
        ("instruct", instruct.steps, data.triplets, "triplets to train on"),
    ):
        if steps and len(examples) < 2:
            raise UserError(
                f"{data.name} has {len(examples)} {what} and {stage}.steps={steps}: add some, "
                f"or leave the stage out with {stage}.steps=0"
            )
    if not instruct.steps:
        return
    for weight, missing, what in (
        (
            "caption_weight",
            sum(not (each.caption and each.modified) for each in data.triplets),
            "captions of both reference and target",
        ),
        ("image_weight", sum(not each.targets for each in data.triplets), "a target picture"),
    ):
        if missing and getattr(instruct, weight) > 0:
            raise UserError(
                f"{data.name}: {missing:,} of {len(data.triplets):,} triplets are without {what}, which "
                f"instruct.{weight}={getattr(instruct, weight):g} needs: add them, or set it to 0"
            )


def _require_room(embedder: Embedder, data: TrainingData, settings: ComposedSettings) -> None:
    """The longest texts must fit into the model's context."""
    captions: set[str] = set()
    if settings.align.steps:
        captions |= {each.caption for each in data.captioned}
    if settings.instruct.steps and settings.instruct.caption_weight > 0:
        captions |= {text for each in data.triplets for text in (each.caption, each.modified)}
    instructions = {each.instruction for each in data.triplets} if settings.instruct.steps else set()
    embedder.require_room(texts=_longest(captions), instructions=_longest(instructions))


def _longest(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)[:LONGEST]
