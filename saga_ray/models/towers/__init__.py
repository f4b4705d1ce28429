"""Vision towers, one file each, found by listing this folder.

A file offers ``build(**config) -> Tower`` with fresh random weights. A stored tower is a folder with
``tower.json`` (name and config) and ``tower.safetensors`` (weights, may be float16; loaded to float32).
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from safetensors.torch import save as to_safetensors

from saga_ray.errors import UserError
from saga_ray.models.towers.base import Tower

__all__ = ["Tower", "build", "load", "names", "save"]


def names() -> list[str]:
    """The towers that ship."""
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)
    return sorted(name for name in modules if name != "base" and not name.startswith("_"))


def build(name: str, config: Mapping[str, Any]) -> Tower:
    """A tower with random weights: one that ships, or, for a name with dots, the module of that name.

    Raises:
        UserError: no such tower.
    """
    module = name if "." in name else f"{__name__}.{name}"
    try:
        tower: Tower = importlib.import_module(module).build(**config)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UserError(
            f"there is no tower {name!r}; choose from {', '.join(names())}, or name a module"
        ) from error
    return tower


def load(folder: Path) -> Tower:
    """The tower stored in a folder, weights as float32.

    Raises:
        UserError: the folder holds no tower.
    """
    description, weights = folder / "tower.json", folder / "tower.safetensors"
    if not description.is_file() or not weights.is_file():
        raise UserError(f"{folder} holds no tower: it needs tower.json and tower.safetensors")
    stored = json.loads(description.read_text())
    tower = build(stored["name"], stored["config"])
    tower.load_state_dict({key: value.float() for key, value in load_file(weights).items()})
    return tower


def save(tower: Tower, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Store a tower so that ``load`` finds it."""
    folder.mkdir(parents=True, exist_ok=True)
    weights, unfinished = folder / "tower.safetensors", folder / "tower.safetensors.part"
    state = {key: value.to(dtype).contiguous() for key, value in tower.state_dict().items()}
    unfinished.write_bytes(to_safetensors(state))
    os.replace(unfinished, weights)
    description, unfinished = folder / "tower.json", folder / "tower.json.part"
    unfinished.write_text(json.dumps({"name": tower.name, "config": dict(tower.config())}, indent=1) + "\n")
    os.replace(unfinished, description)
