"""Where in a written answer each image is described and where the verdict stands."""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.prompts.objects import located, members
from saga_ray.prompts.vocabulary import Vocabulary


@dataclass(frozen=True)
class Spans:
    """Places in an answer's text, counted in characters; none for what it lacks."""

    descriptions: tuple[slice, slice] | None
    """What stands between the braces of image a's description, and of image b's: attributes and texts."""
    verdict: int | None
    """First character of the verdict, behind its quotation mark."""


def spans(answer: str, vocabulary: Vocabulary) -> Spans:
    """The places in the object that `parse_answer` reads: the last one that has the verdict key.

    Both images are described, or none counts as described.
    """
    asked = [
        (at, found)
        for at, found in located(answer, vocabulary.verdict_key)
        if vocabulary.verdict_key in found
    ]
    if not asked:
        return Spans(None, None)
    start, found = asked[-1]
    places = members(answer, start)
    first, second = vocabulary.item_keys
    described = isinstance(found.get(first), dict) and isinstance(found.get(second), dict)
    verdict = places[vocabulary.verdict_key].start
    return Spans(
        (_inside(places[first]), _inside(places[second])) if described else None,
        verdict + 1 if isinstance(found[vocabulary.verdict_key], str) else verdict,
    )


def _inside(braces: slice) -> slice:
    return slice(braces.start + 1, braces.stop - 1)
