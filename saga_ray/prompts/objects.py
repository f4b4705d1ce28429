"""JSON objects in what a language model writes, whatever stands around them. No string makes this fail."""

from __future__ import annotations

import json
from typing import Any

_DECODER = json.JSONDecoder(strict=False, parse_int=float)  # strict=False: models break lines inside strings


def objects(text: str, key: str) -> list[dict[str, Any]]:
    """The complete top-level JSON objects of the text, in order.

    An object that the text's end cuts off, or that is not JSON, is left out, and reading goes on where it
    broke; from there on only objects with `key` count, since those inside the broken one look like top-level
    ones.
    """
    found: list[dict[str, Any]] = []
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
                found.append(value)
        start = text.find("{", end)
    return found
