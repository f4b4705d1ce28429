"""Triplets for composed retrieval: a reference picture, an instruction, and the pictures that answer it.

Two kinds. `recolour`: "the same one in red", answered by the repainted pictures of the same model.
`attribute`: "another lamp, but taller and in green", answered by the one model of the split that fits. A
gallery is all pictures of a split, painted as the artist did and repainted, less the reference; an
instruction counts as unique only if no other model in that gallery fits it, not even loosely.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

from saga_ray.data.furniture.repaint import VIEWS_A_COLOUR

Row = Mapping[str, Any]
Choice = TypeVar("Choice")

RECOLOUR_PHRASES = ("the same one in {}", "make it {}", "the same model, but {}", "this one painted {}")
CLEARLY, HARDLY = 1.4, 1.1
"""Ratios of two shapes' heights: from the first on one is surely taller; below the second nobody says so."""
SPOKEN_KINDS = {
    "armchair", "bed", "cabinet", "chair", "door", "lamp",
    "plant", "sofa", "stool", "table", "vehicle", "window",
}  # fmt: skip
"""Kinds whose members are alike enough that "another one, but ..." makes sense."""
TRIPLETS_A_MODEL = 2
UNSPOKEN_USES = {"building", "climate", "media", "wiring"}
"""Uses that nobody asks for by that word."""


@dataclass(frozen=True)
class Thing:
    """A model in one paint: its pictures' ids and what can be said of it.

    `tallness` is the height by the longer side of the footprint: pictures show shapes, not sizes.
    """

    label: str
    pictures: tuple[str, ...]
    kind: str
    use: str
    colour: str
    accent: str
    surface: str
    tallness: float
    tags: frozenset[str]


@dataclass(frozen=True)
class Wish:
    """A part of an instruction: who `surely` fits it, and who might be said to fit it."""

    phrase: str
    surely: Callable[[Thing], bool]
    loosely: Callable[[Thing], bool]


def make_triplets(rows: Sequence[Row], repainted: Sequence[Row]) -> list[dict[str, Any]]:
    """All triplets from the rows of `furniture.parquet` and `composed.parquet`, in a fixed order."""
    return [*recolour_triplets(rows, repainted), *attribute_triplets(rows, repainted)]


def recolour_triplets(rows: Sequence[Row], repainted: Sequence[Row]) -> list[dict[str, Any]]:
    """One triplet a repainted model and colour; no repainted picture shows the reference's view."""
    pictures: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for row in repainted:
        pictures[row["label"], row["split"], row["colour"]].append(row["id"])
    views = [row["view"] for row in rows if row["label"] == rows[0]["label"]]
    free = [view for view in views if view not in VIEWS_A_COLOUR]
    return [
        {
            "reference": f"{label}/{_pick(free, label, colour)}",
            "instruction": _pick(RECOLOUR_PHRASES, colour, label).format(colour),
            "target": target,
            "target_label": label,
            "kind": "recolour",
            "split": split,
        }
        for (label, split, colour), target in pictures.items()
    ]


def attribute_triplets(rows: Sequence[Row], repainted: Sequence[Row]) -> list[dict[str, Any]]:
    """Up to `TRIPLETS_A_MODEL` triplets a reference model, each with one target model, unique in its
    split.
    """
    galleries: dict[tuple[str, str], list[Thing]] = defaultdict(list)
    for split, thing in things(rows, repainted):
        if thing.kind in SPOKEN_KINDS:
            galleries[split, thing.kind].append(thing)
    triplets = []
    for (split, kind), gallery in galleries.items():
        originals = [thing for thing in gallery if thing.pictures[0].count("/") == 1]
        for reference in originals:
            others = [thing for thing in gallery if thing.label != reference.label]
            found = sorted(unique_answers(reference, others), key=lambda x: _hash(reference.label, x[0]))
            for phrase, label, target in found[:TRIPLETS_A_MODEL]:
                triplets.append(
                    {
                        "reference": _pick(reference.pictures, phrase, label),
                        "instruction": f"another {kind}, but {phrase}",
                        "target": target,
                        "target_label": label,
                        "kind": "attribute",
                        "split": split,
                    }
                )
    return triplets


def things(rows: Sequence[Row], repainted: Sequence[Row]) -> Iterator[tuple[str, Thing]]:
    """(split, thing) for every model as its artist painted it, then for every repainted one."""
    pictures: dict[tuple[str, str], list[str]] = defaultdict(list)
    facts: dict[str, Row] = {}
    for row in rows:
        pictures[row["label"], ""].append(row["id"])
        facts[row["label"]] = row
    for row in repainted:
        pictures[row["label"], row["colour"]].append(row["id"])
    for (label, paint), ids in pictures.items():
        row = facts[label]
        yield (
            row["split"],
            Thing(
                label=label,
                pictures=tuple(ids),
                kind=row["kind"],
                use=row["use"],
                colour=paint or row["colour"],
                accent=row["accent"] if not paint else row["colour"],
                surface=row["surface"],
                tallness=row["height_cm"] / max(row["width"], row["depth"]),
                tags=frozenset(row["tags"].split(", ")),
            ),
        )


def unique_answers(reference: Thing, others: Sequence[Thing]) -> list[tuple[str, str, list[str]]]:
    """(phrase, label, pictures) of each model that alone fits some wish, or else some two wishes."""
    options = wishes(reference, others)
    answers: dict[str, tuple[str, str, list[str]]] = {}
    for size in (1, 2):
        for chosen in combinations(options, size):
            fits = {thing.label for thing in others if all(wish.loosely(thing) for wish in chosen)}
            sure = [thing for thing in others if all(wish.surely(thing) for wish in chosen)]
            if len(fits) == 1 and sure and sure[0].label not in answers:
                phrase = " and ".join(wish.phrase for wish in chosen)
                answers[sure[0].label] = (
                    phrase,
                    sure[0].label,
                    [picture for thing in sure for picture in thing.pictures],
                )
    return list(answers.values())


def wishes(reference: Thing, others: Sequence[Thing]) -> list[Wish]:
    """What can be asked for that the reference is not."""
    found = [
        Wish("taller", _taller(reference, CLEARLY), _taller(reference, HARDLY)),
        Wish("lower", _lower(reference, CLEARLY), _lower(reference, HARDLY)),
    ]
    for phrase, fits in (("for outdoors", _outdoors), ("for children", _for_children)):
        if not fits(reference):
            found.append(Wish(phrase, fits, fits))
    for surface, phrase in (("patterned", "with a pattern all over"), ("clear", "with clear glass")):
        if reference.surface != surface:
            found.append(Wish(phrase, _is("surface", surface), _is("surface", surface)))
    for use in sorted({thing.use for thing in others} - UNSPOKEN_USES - {reference.use}):
        found.append(Wish(f"for {use}", _is("use", use), _is("use", use)))
    for colour in sorted({thing.colour for thing in others} - {reference.colour, reference.accent}):
        found.append(Wish(f"in {colour}", _is("colour", colour), _shows(colour)))
    return found


def _is(field: str, value: str) -> Callable[[Thing], bool]:
    return lambda thing: getattr(thing, field) == value


def _shows(colour: str) -> Callable[[Thing], bool]:
    return lambda thing: colour in (thing.colour, thing.accent)


def _taller(reference: Thing, ratio: float) -> Callable[[Thing], bool]:
    return lambda thing: thing.tallness >= ratio * reference.tallness


def _lower(reference: Thing, ratio: float) -> Callable[[Thing], bool]:
    return lambda thing: thing.tallness * ratio <= reference.tallness


def _outdoors(thing: Thing) -> bool:
    return bool(thing.tags & {"Outdoor", "Garden", "Deck", "Patio"})


def _for_children(thing: Thing) -> bool:
    return bool(thing.tags & {"Kid", "Children", "Child", "Baby"})


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("|".join(words).encode()).digest()[:8], "big")


def _pick(choices: Sequence[Choice], *words: str) -> Choice:
    return choices[_hash(*words) % len(choices)]
