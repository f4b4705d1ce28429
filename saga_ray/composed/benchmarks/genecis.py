"""GeneCIS: one word of condition, four tasks, and a small gallery of its own for every query.

    {focus,change}_{attribute,object}.json, or genecis/…    [{condition, reference, target, gallery}]
    val2017/{id:012d}.jpg, or coco/val2017/…     object tasks: {val_image_id}, or the bare id
    VG_100K/{id}.jpg, VG_100K_2/…, VG_100K_all/…, or visual_genome/…
                                     attribute tasks: {image_id, instance_bbox [left, top, width, height]}

An attribute task shows the crop around a box (`pictures.dilated_square`). A query ranks its target and
its distractors; the release lists the target apart, and every ranking here is free of that order. A list
that names a picture twice is ranked as it stands, as the authors' code does, and counted; a target that is
named a second time among its distractors is right at both places.

Measures: recall@1, @2, @3, the means over the four tasks (the first is the headline), then each task's.
Counts: `queries_with_repeated_pictures`, `blank_instructions`.
Source: Vaze et al., "GeneCIS: A Benchmark for General Conditional Image Similarity" (2023), and its code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saga_ray.composed.benchmarks.base.measures import Pairs, mean_over_kinds, recalls
from saga_ray.composed.benchmarks.base.pictures import Box, Picture
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.data.release import (
    Entry,
    Release,
    difference,
    is_number,
    malformed,
    read_entries,
    text,
)

SPLITS = ("test",)
PROTOCOLS = ("standard",)
OFFICIAL_QUERIES = {
    "focus_attribute": 2000,
    "change_attribute": 2112,
    "focus_object": 1960,
    "change_object": 1960,
}
COCO = ("val2017", "coco/val2017")
VISUAL_GENOME = tuple(
    top + folder for top in ("", "visual_genome/") for folder in ("VG_100K", "VG_100K_2", "VG_100K_all")
)


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """The four tasks. Raises UserError for what is missing or malformed."""
    release = Release("genecis", root)
    galleries: dict[str, Gallery] = {}
    queries: list[Query] = []
    differs: list[str] = []
    for task, official in OFFICIAL_QUERIES.items():
        file = f"genecis/{task}.json" if (root / "genecis").is_dir() else f"{task}.json"
        if not release.has(file):
            continue
        pictures: dict[str, Picture] = {}
        own = [
            _query(release, task, place, where, entry, pictures)
            for place, (where, entry) in enumerate(read_entries(root / file), 1)
        ]
        galleries[task] = Gallery(task, tuple(pictures.values()))
        differs += difference(file, len(own), official)
        queries += own
    release.refuse_if_incomplete()
    counts = {
        "queries_with_repeated_pictures": sum(
            len(set(query.candidates or ())) < len(query.candidates or ()) for query in queries
        ),
        "blank_instructions": sum(not query.instructions[0].strip() for query in queries),
    }
    return Benchmark("genecis", split, protocol, galleries, tuple(queries), tuple(differs), counts)


def measures(pairs: Pairs) -> dict[str, float]:
    """recall@1, @2, @3: the means over tasks, then each task's."""
    return mean_over_kinds(pairs, lambda own: recalls(own, (1, 2, 3)))


def _query(
    release: Release, task: str, place: int, where: str, entry: Entry, pictures: dict[str, Picture]
) -> Query:
    """One entry; the pictures that it ranks join `pictures`."""
    distractors = entry.get("gallery")
    if not isinstance(distractors, list) or not distractors:
        raise malformed(where, "'gallery' is no list of pictures")
    candidates = [
        _picture(release, task, value, f"{where}, {name}")
        for name, value in [("target", entry.get("target")), *(("gallery", each) for each in distractors)]
    ]
    pictures.update({picture.id: picture for picture in candidates})
    return Query(
        id=f"{task}/{place}",
        gallery=task,
        reference=_picture(release, task, entry.get("reference"), f"{where}, reference"),
        instructions=(text(entry, "condition", where),),
        targets=(candidates[0].id,),
        kind=task,
        candidates=tuple(picture.id for picture in candidates),
        annotation=entry,
    )


def _picture(release: Release, task: str, value: Any, where: str) -> Picture:
    if task.endswith("_object"):
        picture = _id(value.get("val_image_id") if isinstance(value, dict) else value, where, "val_image_id")
        return Picture(picture, release.picture(*(f"{folder}/{int(picture):012d}.jpg" for folder in COCO)))
    if not isinstance(value, dict):
        raise malformed(where, f"{value!r} is no object with 'image_id' and 'instance_bbox'")
    picture = _id(value.get("image_id"), where, "image_id")
    box = _box(value.get("instance_bbox"), where)
    path = release.picture(*(f"{folder}/{picture}.jpg" for folder in VISUAL_GENOME))
    # one picture holds several objects
    return Picture(f"{picture}@{','.join(map(str, box))}", path, box)


def _id(value: Any, where: str, name: str) -> str:
    # Visual Genome's ids are texts in some files and numbers in others
    if is_number(value) or (isinstance(value, str) and value.isdecimal()):
        return str(int(value))
    raise malformed(where, f"{name!r} is {value!r} and no picture's number")


def _box(value: Any, where: str) -> Box:
    fits = isinstance(value, list) and len(value) == 4 and all(_is_finite(each) for each in value)
    if not fits or value[2] <= 0 or value[3] <= 0:
        raise malformed(where, f"'instance_bbox' is {value!r} and no [left, top, width, height] with an area")
    left, top, width, height = map(float, value)
    return left, top, width, height


def _is_finite(value: Any) -> bool:
    # JSON as Python reads it may hold NaN
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
