"""Composed retrieval over the furniture set that ships: the same model repainted, or another one that fits.

Captions and triplets are made by rule from the catalogue's attributes, over the models of the parts `train`
and `extra`; those of validation and test are other models. Renders, not photographs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import combinations
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saga_ray.composed.examples import Captioned, TrainingData, Triplet
from saga_ray.data import furniture
from saga_ray.data.furniture.triplets import RECOLOUR_PHRASES, SPOKEN_KINDS, Thing, things, wishes
from saga_ray.data.picture_column import PictureColumn

PARTS = ("train", "extra")
MOST_FITTING = 3
"""Others of its kind that an instruction may fit too."""
REFERENCES = 2
"""Pictures of a model from which another one is asked for."""
NOTE = "The pictures are renders of artists' 3D models, not photographs."

Row = Mapping[str, Any]


def read(location: str | None) -> TrainingData:
    """The training part; it lies in the package, so `location` is not asked for."""
    plain, painted = _rows(furniture.PARQUET), _rows(furniture.COMPOSED)
    rows = [row for row in (*plain, *painted) if row["split"] in PARTS]
    place = {row["id"]: number for number, row in enumerate(rows)}
    facts = {row["label"]: row for row in plain}
    everything = [thing for split, thing in things(plain, painted) if split in PARTS]
    captioned = [
        Captioned(place[picture], caption(thing, facts[thing.label]))
        for thing in everything
        for picture in thing.pictures
    ]
    triplets = [
        Triplet(
            reference=place[reference],
            instruction=instruction,
            caption=caption(before, facts[before.label]),
            modified=caption(after, facts[after.label]),
            targets=tuple(place[picture] for picture in after.pictures),
            shows=_name(before),
            asks=_name(after),
        )
        for before, after, references, instructions in (*_repaints(everything), *_others(everything))
        for number, reference in enumerate(references)
        for instruction in (instructions[number % len(instructions)],)
    ]
    total = hashlib.sha256()
    for row in rows:
        total.update(row["image"])
    total.update(repr((captioned, triplets)).encode())
    return TrainingData(
        name="furniture",
        pictures=PictureColumn(pa.array([row["image"] for row in rows], type=pa.large_binary())),
        captioned=captioned,
        triplets=triplets,
        hash=total.hexdigest(),
        note=NOTE,
    )


def caption(thing: Thing, facts: Row) -> str:
    """What a picture of a model in one paint shows, as a sentence."""
    colour = thing.colour if thing.accent in ("none", thing.colour) else f"{thing.colour} and {thing.accent}"
    return f"a {colour} {thing.kind} for {thing.use}, {facts['surface']}, {facts['height']}, {facts['name']}"


Change = tuple[Thing, Thing, Sequence[str], Sequence[str]]
"""What is shown, what is asked for, pictures of the one, ways to ask for the other."""


def _repaints(everything: Sequence[Thing]) -> Iterator[Change]:
    """A model, the same in another colour: every two paints of every model, from every picture."""
    paints: dict[str, list[Thing]] = defaultdict(list)
    for thing in everything:
        paints[thing.label].append(thing)
    for own in paints.values():
        for before in own:
            for after in own:
                if after.colour != before.colour:
                    phrases = [phrase.format(after.colour) for phrase in RECOLOUR_PHRASES]
                    yield before, after, before.pictures, phrases


def _others(everything: Sequence[Thing]) -> Iterator[Change]:
    """A model, another of its kind: wherever one wish, or two, fit few others. From a few pictures each, or
    there would be many more than repaints."""
    kinds: dict[str, list[Thing]] = defaultdict(list)
    for thing in everything:
        if thing.kind in SPOKEN_KINDS:
            kinds[thing.kind].append(thing)
    for kind, gallery in kinds.items():
        for before in gallery:
            if (
                before.pictures[0].count("/") > 1
            ):  # repainted: what is asked of a model is asked of its own paint
                continue
            others = [thing for thing in gallery if thing.label != before.label]
            options = wishes(before, others)
            sure = {wish.phrase: {id(thing) for thing in others if wish.surely(thing)} for wish in options}
            loose = {wish.phrase: {id(thing) for thing in others if wish.loosely(thing)} for wish in options}
            for turn, after in enumerate(others):
                own = [phrase for phrase in sure if id(after) in sure[phrase]]
                said = [
                    f"another {kind}, but {' and '.join(phrases)}"
                    for size in (1, 2)
                    for phrases in combinations(own, size)
                    if len(set.intersection(*(loose[phrase] for phrase in phrases))) <= MOST_FITTING
                ]
                seen = [before.pictures[(turn + step) % len(before.pictures)] for step in range(REFERENCES)]
                if said:
                    yield before, after, seen, said


def _name(thing: Thing) -> str:
    return f"{thing.label}/{thing.colour}"


@cache
def _rows(path: Any) -> list[Row]:
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows
