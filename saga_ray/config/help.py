"""Every setting by its dotted name: what it may be, its default and its meaning, from the typed models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from saga_ray.config.settings import Settings


@dataclass(frozen=True)
class SettingHelp:
    """One setting, as users see it."""

    name: str
    allowed: str
    default: str
    doc: str
    kind: str  # JSON Schema's type: string, integer, number, boolean, array, object
    nullable: bool

    @property
    def section(self) -> str:
        """The section that the setting is in; empty for a setting of the run itself."""
        return self.name.rpartition(".")[0]


@cache
def sections(model: type[BaseModel] = Settings) -> dict[str, str]:
    """Section name -> what it is about."""
    classes = {name: field.annotation for name, field in model.model_fields.items()}
    return {
        name: (each.__doc__ or "").strip()
        for name, each in classes.items()
        if isinstance(each, type) and issubclass(each, BaseModel)
    }


@cache
def settings_help(model: type[BaseModel] = Settings) -> dict[str, SettingHelp]:
    """Dotted name -> help, in the order of the model's fields."""
    return {each.name: each for each in _walk(model, "")}


def _walk(model: type[BaseModel], prefix: str) -> list[SettingHelp]:
    properties = model.model_json_schema()["properties"]
    found = []
    for name, field in model.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found += _walk(annotation, f"{prefix}{name}.")
        else:
            found.append(_setting_help(prefix + name, field, properties[name]))
    return found


def _setting_help(name: str, field: FieldInfo, schema: dict[str, Any]) -> SettingHelp:
    choices = [each for each in schema.get("anyOf", [schema]) if each.get("type") != "null"]
    nullable = len(choices) < len(schema.get("anyOf", [schema]))
    default = field.get_default(call_default_factory=True)
    return SettingHelp(
        name=name,
        allowed=" or ".join(map(_allowed, choices)) + (", or none" if nullable else ""),
        default="none" if default is None else default if isinstance(default, str) else json.dumps(default),
        doc=field.description or "",
        kind=choices[0]["type"],
        nullable=nullable,
    )


def _allowed(schema: dict[str, Any]) -> str:
    """What a value may be, in words, from its JSON Schema."""
    if "enum" in schema:
        return "one of " + ", ".join(schema["enum"])
    match schema["type"]:
        case "string":
            return "text"
        case "boolean":
            return "true or false"
        case "array":
            return f"a list of {_plural(schema['items'])}"
        case "object":
            return f"a table of {_plural(schema.get('additionalProperties', True))}"
        case kind:
            return ("a whole number" if kind == "integer" else "a number") + _bounds(schema)


def _plural(schema: dict[str, Any] | bool) -> str:
    if isinstance(schema, bool):
        return "values"
    kinds = {each.get("type", "object") for each in schema.get("anyOf", schema.get("oneOf", [schema]))}
    return {"string": "texts", "object": "tables"}.get(
        next(iter(kinds)) if len(kinds) == 1 else "", "numbers"
    )


def _bounds(schema: dict[str, Any]) -> str:
    words = [
        f"{word} {schema[key]:.10g}"
        for key, word in {
            "minimum": "of at least",
            "exclusiveMinimum": "above",
            "maximum": "at most",
            "exclusiveMaximum": "below",
        }.items()
        if key in schema
    ]
    return (" " + " and ".join(words)) if words else ""
