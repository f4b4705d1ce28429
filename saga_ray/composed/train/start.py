"""What a stage starts from."""

from __future__ import annotations

from pathlib import Path

from saga_ray.composed.embedder import Embedder
from saga_ray.config.composed import ComposedSettings
from saga_ray.models import supervisors


def start_embedder(settings: ComposedSettings, start: Path | None, supervisor: str) -> Embedder:
    """The embedder that the stage before has left; for the first stage the supervisor, by its name or folder,
    as it is.
    """
    chosen = settings.embedder
    if start is not None:
        return Embedder.load(start)
    loaded = supervisors.load(supervisor, chosen.precision)
    return Embedder(loaded, width=chosen.width, end=chosen.end, seed=settings.seed)
