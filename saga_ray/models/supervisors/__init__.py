"""Frozen supervisors: one file a family, found by listing this folder; those that ship lie in `shipped/`.

A family's file offers ``load(folder, precision) -> Supervisor``. A supervisor's folder says in
`supervisor.json` which family reads it: one of these, or, for a name with dots, the module of that name.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import EnginePrompt, Supervisor

__all__ = ["SHIPPED", "EnginePrompt", "Supervisor", "anywhere", "families", "find", "load", "names"]

SHIPPED = Path(__file__).parent / "shipped"
DESCRIPTION = "supervisor.json"


def families() -> list[str]:
    """The families that there are: one file each."""
    modules = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in modules if name != "base" and not name.startswith("_"))


def names() -> list[str]:
    """The supervisors that ship."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{DESCRIPTION}"))


def find(path_or_name: str | Path) -> Path:
    """The folder of a supervisor that ships, by its name, or of any other, by its path.

    Raises:
        UserError: there is no supervisor there.
    """
    shipped = SHIPPED / path_or_name
    folder = shipped if (shipped / DESCRIPTION).is_file() else Path(path_or_name).expanduser()
    if not (folder / DESCRIPTION).is_file():
        close = get_close_matches(str(path_or_name), names(), n=1)
        hint = (
            f"; did you mean {close[0]!r}?"
            if close
            else f"; name one that ships ({', '.join(names())}) or a folder."
        )
        raise UserError(
            f"There is no supervisor {str(path_or_name)!r}: no {DESCRIPTION} is found there{hint}"
        )
    return folder.resolve()


def anywhere(path_or_name: str) -> str:
    """What finds the same supervisor from any working folder: the name of one that ships, which may lie
    elsewhere on another node, else its absolute path. Raises UserError like `find`.
    """
    return path_or_name if path_or_name in names() else str(find(path_or_name))


def load(path_or_name: str | Path, precision: Literal["float32", "bfloat16"] = "float32") -> Supervisor:
    """A frozen supervisor, by the name of one that ships or by its folder; `precision` is its language
    model's arithmetic.

    Raises:
        UserError: there is no supervisor there, or its family is unknown.
    """
    folder = find(path_or_name)
    try:
        family = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))["family"]
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{folder / DESCRIPTION} does not name the supervisor's family; train or copy it again."
        ) from error
    module = family if "." in family else f"{__name__}.{family}"
    try:
        supervisor: Supervisor = importlib.import_module(module).load(folder, precision)
    except ModuleNotFoundError as error:
        if error.name is None or not module.startswith(error.name):
            raise
        raise UserError(
            f"{folder} holds a supervisor of the family {family!r}; known are {', '.join(families())}."
        ) from error
    return supervisor
