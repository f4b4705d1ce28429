"""``--set a.b=c`` and ``--data PATH`` on top of a preset: from a command's arguments to checked settings."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from saga_ray.config.alignment import AlignmentSettings
from saga_ray.config.checking import check, check_as, unknown
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.help import SettingHelp, sections, settings_help
from saga_ray.config.names import modules_in, nearest
from saga_ray.config.presets import read_preset
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

OWN_DATA_ARMS = ["start", "metric", "saga"]


def resolve(preset: str, overrides: Sequence[str] = (), data: str | None = None) -> Settings:
    """The settings of a run: the preset's or file's, then ``data`` for its pictures, then the overrides.

    With ``data`` the arms are start, metric and saga, whatever the preset compares, unless an override says
    otherwise. Raises UserError.
    """
    values, path = read_preset(preset)
    origins: dict[str, str] = {}
    if data is not None:
        section = values.setdefault("data", {})
        if isinstance(section, dict):
            section["source"] = _data_source(data)
            origins["data.source"] = f"--data {data}"
        values["arms"] = list(OWN_DATA_ARMS)
    for override in overrides:
        name = apply(values, override)
        origins[name] = f"--set {override}"
    return check(values, str(path), origins)


def resolve_alignment(overrides: Sequence[str] = ()) -> AlignmentSettings:
    """The settings of a supervisor's training: the defaults, then the overrides. Raises UserError."""
    values: dict[str, Any] = {}
    origins = {apply(values, override, AlignmentSettings): f"--set {override}" for override in overrides}
    return check_as(AlignmentSettings, values, "the defaults", origins)


def resolve_composed(preset: str, overrides: Sequence[str] = (), data: str | None = None) -> ComposedSettings:
    """The settings of a run of composed retrieval: the preset's or file's, then ``data``, then the overrides.
    Raises UserError.
    """
    values, path = read_preset(preset, "cir")
    origins: dict[str, str] = {}
    if data is not None:
        place(values, "data.source", str(Path(data).expanduser().absolute()), f"--data {data}")
        origins["data.source"] = f"--data {data}"
    for override in overrides:
        origins[apply(values, override, ComposedSettings)] = f"--set {override}"
    return check_as(ComposedSettings, values, str(path), origins)


def apply(values: dict[str, Any], override: str, model: type[BaseModel] = Settings) -> str:
    """Put one ``a.b=c`` into nested values; returns the dotted name of the setting that it sets."""
    dotted, equals, text = override.partition("=")
    dotted, text, origin = dotted.strip(), text.strip(), f"--set {override}"
    if not equals or not dotted:
        raise UserError(f"{origin} has no value: write --set name=value, for example --set train.steps=200")
    if dotted in sections(model):
        raise UserError(f"{origin} names a section: set its settings one by one, {dotted}.<setting>=<value>")
    setting = setting_named(dotted, origin, model)
    deeper = dotted.count(".") > setting.name.count(".")
    place(values, dotted, parse_value(text) if deeper else _value_for(setting, text), origin)
    return setting.name


def place(values: dict[str, Any], dotted: str, value: Any, origin: str = "a setting") -> None:
    """Put a value into nested plain values by its dotted name."""
    *parts, last = dotted.split(".")
    target = values
    for part in parts:
        inner = target.setdefault(part, {})
        if not isinstance(inner, dict):
            raise UserError(f"{origin} does not fit: {part!r} in the file is not a table")
        target = inner
    target[last] = value


def parse_value(text: str) -> Any:
    """A value as TOML writes it; a bare word is text, also inside a list: ``[start, saga]``."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        parsed = {}
    if set(parsed) == {"value"}:
        return parsed["value"]
    if text.startswith("[") and text.endswith("]"):
        return [parse_value(item.strip()) for item in text[1:-1].split(",") if item.strip()]
    return text


def setting_named(dotted: str, origin: str, model: type[BaseModel] = Settings) -> SettingHelp:
    """The setting that a dotted name means; a table's own keys go deeper than the setting's name. Raises
    UserError, with the nearest name.
    """
    known = settings_help(model)
    if dotted in known:
        return known[dotted]
    for setting in known.values():
        if setting.kind == "object" and dotted.startswith(setting.name + "."):
            return setting
    unknown(dotted, origin, model)


def _value_for(setting: SettingHelp, text: str) -> Any:
    if setting.nullable and text.lower() == "none":
        return None
    value = parse_value(text)
    # Text settings take what was typed, also where it looks like a number.
    return text if setting.kind == "string" and not isinstance(value, str) else value


def _data_source(data: str) -> str:
    path = Path(data).expanduser()
    if path.exists():
        return str(path.absolute())
    names = modules_in("data/sources")
    if data in names:
        return data
    meant = nearest(data, names)
    hint = f"; did you mean the data set {meant!r}?" if meant else ""
    raise UserError(f"--data {data}: there is no such folder or table{hint or '; check the path'}")
