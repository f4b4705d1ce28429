"""A completion made readable: what it says of either picture, where these differ, what it concludes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saga_ray.prompts.verdict import parse_answer


@dataclass(frozen=True)
class Attribute:
    """One attribute in the descriptions of both pictures."""

    name: str
    first: str
    second: str

    @property
    def differs(self) -> bool:
        return self.first != self.second


@dataclass(frozen=True)
class ReadableAnswer:
    """A completion's parts; `raw` alone where it holds no JSON object."""

    verdict: bool | None
    attributes: list[Attribute]
    remarks: list[tuple[str, str]]
    raw: str | None


def readable(text: str, verdict_key: str) -> ReadableAnswer:
    """Take an answer apart: its first two objects describe the pictures, the rest are remarks."""
    parsed = parse_answer(text, verdict_key)
    if parsed.payload is None:
        return ReadableAnswer(parsed.verdict, [], [], text.strip() or "(nothing)")
    described = [value for value in parsed.payload.values() if isinstance(value, dict)][:2]
    first, second = (described + [{}, {}])[:2]
    attributes = [
        Attribute(plain_name(name), plain(first.get(name, "")), plain(second.get(name, "")))
        for name in dict.fromkeys([*first, *second])
    ]
    remarks = [
        (plain_name(name), plain(value))
        for name, value in parsed.payload.items()
        if name != verdict_key and not any(value is description for description in described)
    ]
    return ReadableAnswer(parsed.verdict, attributes, remarks, None)


def plain(value: Any) -> str:
    """A JSON value as text: lists with commas, objects as `name: value`."""
    if isinstance(value, dict):
        return "; ".join(f"{plain_name(name)}: {plain(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(plain(inner) for inner in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def plain_name(name: str) -> str:
    return name.replace("_", " ")
