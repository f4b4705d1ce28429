"""Whoever goes on with what was interrupted must do so with the settings that it began with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from saga_ray.config.help import settings_help
from saga_ray.errors import UserError


def require_unchanged(
    folder: Path, begun: BaseModel, given: BaseModel, what: Literal["run", "sweep"] = "run"
) -> None:
    """Raises UserError with the first setting that has changed; those of where it runs, `ray.*`, may."""
    old, new = _flat(begun), _flat(given)
    for name in new:
        if old[name] != new[name] and not name.startswith("ray."):
            at, before, now = _inside(name, old[name], new[name])
            raise UserError(
                f"{folder} began with {at} = {before!r} and this command says {now!r}; "
                f"resume with the same settings, or start a new {what}"
            )


def _flat(settings: BaseModel) -> dict[str, Any]:
    values = settings.model_dump()
    flat = {}
    for name in settings_help(type(settings)):
        section, _, key = name.rpartition(".")
        flat[name] = values[section][key] if section else values[key]
    return flat


def _inside(name: str, old: Any, new: Any) -> tuple[str, Any, Any]:
    """Of a table the first key that differs, with both values."""
    while isinstance(old, dict) and isinstance(new, dict):
        key = next(key for key in {**old, **new} if old.get(key) != new.get(key))
        name, old, new = f"{name}.{key}", old.get(key), new.get(key)
    return name, old, new
