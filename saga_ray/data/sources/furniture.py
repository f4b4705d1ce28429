"""The furniture set that ships with the project: renders of artists' 3D models, one class a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from saga_ray.data import furniture
from saga_ray.data.rows import Rows
from saga_ray.data.sources import table


def rows(location: str | None) -> Rows:
    """All rows of the shipped table; it lies in the package, so `location` is not asked for."""
    return replace(table.rows(str(Path(furniture.PARQUET))), name="furniture")
