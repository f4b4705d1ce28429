"""Settings as flat names and texts, as MLflow's parameters and the report's table show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from saga_ray.config.job import Job
from saga_ray.tracking.address import without_password


def parameters(settings: Job) -> dict[str, str]:
    """Every setting as ``section.field`` -> text, fit to be shown: without the tracking store's password."""
    flat = flatten(settings.model_dump(mode="json"))
    flat["tracking.uri"] = without_password(flat["tracking.uri"])
    return flat


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested tables as ``outer.inner`` -> text; lists and empty tables as JSON."""
    flat: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, dict) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value if isinstance(value, str) else json.dumps(value)
    return flat
