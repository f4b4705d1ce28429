"""Reads the supervisor's JSON answer. A model may write anything: no string makes the parser fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from saga_ray.prompts.objects import objects

_VERDICTS = {"yes": True, "true": True, "no": False, "false": False}


@dataclass(frozen=True)
class ParsedAnswer:
    """What an answer says: the verdict (None: unparsable) and the JSON object it is in (None: none found)."""

    verdict: bool | None
    payload: dict[str, Any] | None

    @property
    def valid_json(self) -> bool:
        """Whether the answer holds a complete JSON object, with a verdict or without."""
        return self.payload is not None


def parse_answer(text: str, verdict_key: str) -> ParsedAnswer:
    """Find the answer object in `text` and read its verdict.

    Text and code fences around the object do not matter. Where there are several objects, **the last one that
    has the verdict key at its top level wins**: a model that corrects itself means its last word. The verdict
    is "yes" or "no" (or "true", "false") in any case, with white space or a full stop around it, or a JSON
    boolean; any other value is no verdict.

    An object that the answer's end cuts off, or that is not JSON, is no answer, even if the verdict stood in
    it already. Reading goes on where it broke.
    """
    answer: dict[str, Any] | None = None
    for found in objects(text, verdict_key):
        if verdict_key in found or answer is None or verdict_key not in answer:
            answer = found
    return ParsedAnswer(_verdict(answer.get(verdict_key)) if answer is not None else None, answer)


def _verdict(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _VERDICTS.get(value.strip().rstrip(".").casefold())
    return None
