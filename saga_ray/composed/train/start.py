"""What a stage starts from."""

from __future__ import annotations

from pathlib import Path

from saga_ray.composed.embedder import Embedder
from saga_ray.config.composed import ComposedSettings
from saga_ray.models import supervisors


def start_embedder(settings: ComposedSettings, start: Path | None) -> Embedder:
    """The embedder that the stage before has left; for the first stage the supervisor as it is."""
    chosen = settings.embedder
    if start is not None:
        return Embedder.load(start)
    supervisor = supervisors.load(chosen.supervisor, chosen.precision)
    return Embedder(supervisor, width=chosen.width, end=chosen.end, seed=settings.seed)
