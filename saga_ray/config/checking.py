"""Plain values into `Settings`, or one sentence: which value is wrong, where it is from, what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from saga_ray.config.help import SettingHelp, sections, settings_help
from saga_ray.config.names import modules_in, nearest
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def check(values: Mapping[str, Any], origin: str, origins: Mapping[str, str] | None = None) -> Settings:
    """The settings of a run from nested plain values.

    ``origin`` says where the values come from, such as a file; ``origins`` says it for single settings, by
    dotted name. Raises UserError.
    """
    settings = check_as(Settings, values, origin, origins)
    for name, value, folder, what in (
        ("metric.loss", settings.metric.loss, "losses/metric", "a loss"),
        ("rollout.engine", settings.rollout.engine, "rollout/engines", "an engine"),
    ):
        there_are = modules_in(folder)
        if value not in there_are:
            where = (origins or {}).get(name, origin)
            raise UserError(f"{name} = {value!r} in {where} is not {what}; there are {', '.join(there_are)}")
    return settings


def check_as(
    model: type[Model], values: Mapping[str, Any], origin: str, origins: Mapping[str, str] | None = None
) -> Model:
    """Any settings model from nested plain values, see `check`."""
    origins = origins or {}
    for name, value in values.items():
        if name not in sections(model):
            _known(model, name, origins.get(name, origin))
        elif not isinstance(value, Mapping):
            where = origins.get(name, origin)
            raise UserError(f"{name!r} in {where} is a section: give {name}.<setting> = <value>")
        else:
            for key in value:
                _known(model, f"{name}.{key}", origins.get(f"{name}.{key}", origin))
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise UserError(_sentence(settings_help(model), first, origin, origins)) from error


def unknown(name: str, origin: str, model: type[BaseModel] = Settings) -> NoReturn:
    """Refuse a setting that does not exist, with the one that was probably meant."""
    meant = _meant(name, model)
    section = name.partition(".")[0]
    hint = f"did you mean {meant}?" if meant else "`saga settings` lists them all"
    if not meant and section in sections(model):
        own = [
            each.name.partition(".")[2] for each in settings_help(model).values() if each.section == section
        ]
        hint = f"{section} has {', '.join(own)}"
    raise UserError(f"unknown setting {name!r} in {origin}; {hint}")


def _meant(name: str, model: type[BaseModel]) -> str | None:
    """The settings that a wrong name may stand for; a missing or wrong section is a frequent slip."""
    names = settings_help(model)
    tail = name.rpartition(".")[2]
    same_tail = [repr(full) for full in names if full.rpartition(".")[2] == tail]
    if same_tail:
        return " or ".join(same_tail)
    section = name.partition(".")[0]
    if section in sections(model):
        own = {full.rpartition(".")[2]: full for full in names if full.startswith(f"{section}.")}
    else:
        own = {**{full.rpartition(".")[2]: full for full in names}, **{full: full for full in names}}
    near = nearest(tail, own) or nearest(name, own)
    return repr(own[near]) if near else None


def _known(model: type[BaseModel], name: str, origin: str) -> None:
    if name not in settings_help(model):
        unknown(name, origin, model)


def _sentence(
    names: Mapping[str, SettingHelp], error: ErrorDetails, origin: str, origins: Mapping[str, str]
) -> str:
    location = [str(part) for part in error["loc"]]
    # Inside lists, tables and unions pydantic's location goes deeper than a setting's name.
    name = next((full for full in names if full.split(".") == location[: full.count(".") + 1]), None)
    if name is None:
        # A rule between settings: it names them itself.
        return error["msg"].removeprefix("Value error, ") + f" ({_all_origins(origin, origins)})"
    where = origins.get(name, origin)
    inside = location[name.count(".") + 1 :]
    at = f", at {inside[0]!r}" if inside and not inside[0].isdigit() else ""
    if error["type"] == "value_error":  # a rule of what stands there: it says what is wrong
        return f"{name} in {where} is not allowed{at}: {error['msg'].removeprefix('Value error, ')}"
    value = _short(error["input"])
    return f"{name} = {value} in {where} is not allowed{at}: it must be {names[name].allowed}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _all_origins(origin: str, origins: Mapping[str, str]) -> str:
    return "; ".join(dict.fromkeys([f"settings from {origin}", *origins.values()]))
