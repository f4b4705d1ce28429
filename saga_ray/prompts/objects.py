"""JSON objects in what a language model writes, whatever stands around them. No string makes this fail."""

from __future__ import annotations

import json
from typing import Any

_DECODER = json.JSONDecoder(strict=False, parse_int=float)  # strict=False: models break lines inside strings


def objects(text: str, key: str) -> list[dict[str, Any]]:
    """The complete top-level JSON objects of the text, in order; see `located`."""
    return [found for _, found in located(text, key)]


def located(text: str, key: str) -> list[tuple[int, dict[str, Any]]]:
    """The complete top-level JSON objects of the text, in order, each with the index of its brace.

    An object that the text's end cuts off, or that is not JSON, is left out, and reading goes on where it
    broke; from there on only objects with `key` count, since those inside the broken one look like top-level
    ones.
    """
    found: list[tuple[int, dict[str, Any]]] = []
    broken = False
    start = text.find("{")
    while start >= 0:
        try:
            value, end = _DECODER.raw_decode(text, start)
        except json.JSONDecodeError as error:
            broken = True
            end = max(error.pos, start + 1)
        except RecursionError:
            break
        else:
            if not broken or key in value:
                found.append((start, value))
        start = text.find("{", end)
    return found


def members(text: str, start: int) -> dict[str, slice]:
    """Where the values of the complete object that opens at `start` stand in the text, by key."""
    places: dict[str, slice] = {}
    at = _next(text, start + 1)
    while text[at] != "}":
        key, at = _DECODER.raw_decode(text, at)
        at = _next(text, _next(text, at) + 1)  # past the colon
        _, end = _DECODER.raw_decode(text, at)
        places[key] = slice(at, end)
        at = _next(text, end)
        if text[at] == ",":
            at = _next(text, at + 1)
    return places


def _next(text: str, at: int) -> int:
    """The first place from `at` on that is no white space."""
    while text[at] in " \t\n\r":
        at += 1
    return at
