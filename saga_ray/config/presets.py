"""Presets and a user's own TOML files: read into plain values, written from settings."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from saga_ray.config.names import nearest, shipped
from saga_ray.errors import UserError

Command = Literal["train", "cir"]
"""Whose presets: those of `saga train`, or of `saga cir train`."""


def preset_folder(command: Command = "train") -> Path:
    """Where presets live: ``jobs/presets``, and those of composed retrieval in ``cir`` there."""
    folder = shipped("jobs/presets", "presets")
    return folder / "cir" if command == "cir" else folder


def preset_names(command: Command = "train") -> list[str]:
    """The presets that ship, found by listing their folder."""
    return sorted(path.stem for path in preset_folder(command).glob("*.toml"))


def find_preset(name_or_path: str, command: Command = "train") -> Path:
    """The TOML file of a preset's name, or the user's own file."""
    names = preset_names(command)
    if name_or_path in names:
        return preset_folder(command) / f"{name_or_path}.toml"
    if name_or_path in preset_names("cir" if command == "train" else "train"):
        other = "saga cir train" if command == "train" else "saga train"
        raise UserError(
            f"{name_or_path!r} is a preset of `{other}`; those of this command are {', '.join(names)}"
        )
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    if path.suffix == ".toml" or len(path.parts) > 1:
        raise UserError(f"there is no settings file {path}; give a TOML file or a preset: {', '.join(names)}")
    meant = nearest(name_or_path, names)
    hint = f"did you mean {meant!r}? " if meant else ""
    raise UserError(
        f"{name_or_path!r} is not a preset; {hint}there are {', '.join(names)}, or give a TOML file"
    )


def read_preset(name_or_path: str, command: Command = "train") -> tuple[dict[str, Any], Path]:
    """A preset's or file's values, not yet checked, and the file they come from."""
    path = find_preset(name_or_path, command)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8")), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def to_toml(settings: BaseModel) -> str:
    """Settings as a TOML file that `read_preset` reads back; what is none stands there as a comment."""
    own, sections = [], []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            sections.append(f"\n[{name}]\n{to_toml(value)}")
        elif value is None:
            own.append(f"# {name}: none\n")
        else:
            own.append(f"{name} = {_toml_value(value)}\n")
    return "".join(own + sections)


def _toml_value(value: Any) -> str:
    match value:
        case BaseModel():
            return _toml_value(value.model_dump())
        case dict():
            items = (f"{_toml_value(key)} = {_toml_value(each)}" for key, each in value.items())
            return "{" + ", ".join(items) + "}"
        case list():
            return "[" + ", ".join(_toml_value(each) for each in value) + "]"
        case str():
            # JSON's strings are TOML's basic strings, but for DEL, which TOML wants escaped.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case bool():
            return "true" if value else "false"
        case _:
            return repr(value)
