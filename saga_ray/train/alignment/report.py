"""What a training of a pocket supervisor made, in numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from saga_ray.train.alignment.evaluate import SupervisorScores
from saga_ray.train.alignment.fit import Check


@dataclass(frozen=True)
class AlignmentReport:
    """What a training made. Scores are None for parts that the table has no pairs of."""

    folder: Path
    pictures: int
    classes: int
    classes_hash: str
    """SHA-256 over the sorted names of the classes that were learned from."""
    parameters: int
    """Of language model and projector."""
    bytes: int
    """Of the whole folder."""
    seconds: float
    chosen_step: int
    """Steps after which the kept weights were seen."""
    checks: list[Check]
    learned: SupervisorScores
    validation: SupervisorScores | None
    test: SupervisorScores | None
