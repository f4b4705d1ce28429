"""CIRR: "show three bottles of soft drink", over photographs of all kinds.

    cirr/captions/cap.rc2.{val,test1}.json       [{pairid, reference, caption, img_set {members [6]},
                                                   target_hard and target_soft (val only)}]
    cirr/image_splits/split.rc2.{val,test1}.json  {name: path}
    {path}, or cirr/img_raw/{path}

A query's gallery is the split's pictures less its own reference. Its subset is the five other members of its
image set, ranked a second time on their own.

Only the hard target counts. Soft targets (other pictures that annotators judged) enter no measure, so the 37
val queries that list their own reference among them lose nothing by the reference's absence; they are
counted. A blank caption (test1 has one) is kept as it is: the server wants an answer to every query.

Measures: recall@1, @5, @10, @50; recall_subset@1, @2, @3; summary = (recall@5 + recall_subset@1) / 2.
Counts: `reference_among_soft_targets`, `blank_instructions`.
Source: Liu et al., "Image Retrieval on Real-life Images with Pre-trained Vision-and-Language Models" (2021),
and its server's description.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from saga_ray.composed.benchmarks.base.measures import Pairs, is_found, recalls
from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.benchmarks.base.predictions import Sheet
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.composed.benchmarks.base.ranking import DEPTH, Ranking
from saga_ray.data.release import (
    Entry,
    Release,
    difference,
    malformed,
    number,
    read_entries,
    read_json,
    text,
    texts,
)
from saga_ray.errors import UserError

SPLITS = ("val", "test1")
PROTOCOLS = ("standard",)
OFFICIAL_QUERIES = {"val": 4181, "test1": 4148}
OFFICIAL_PICTURES = {"val": 2297, "test1": 2315}
GALLERY = "all"
MEMBERS = 6
VERSION = "rc2"
PLACES = {"recall": DEPTH, "recall_subset": 3}
"""Names a query in each of the server's files."""
MOST_BYTES = 5_000_000
"""What the server takes."""


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """A split. Raises UserError for what is missing or malformed."""
    release = Release("cirr", root)
    captions = f"cirr/captions/cap.{VERSION}.{split}.json"
    listing = f"cirr/image_splits/split.{VERSION}.{split}.json"
    # both, not one or none: everything that is missing is told at once
    there = [release.has(captions), release.has(listing)]
    pictures = _pictures(release, listing) if there[1] else {}
    queries = _queries(root / captions, split, pictures) if all(there) else []
    release.refuse_if_incomplete()
    return Benchmark(
        "cirr",
        split,
        protocol,
        galleries={GALLERY: Gallery(GALLERY, tuple(pictures.values()))},
        queries=tuple(queries),
        differs=(
            *difference(captions, len(queries), OFFICIAL_QUERIES[split]),
            *difference(listing, len(pictures), OFFICIAL_PICTURES[split]),
        ),
        counts={
            "reference_among_soft_targets": sum(
                query.reference.id in query.annotation.get("target_soft", {}) for query in queries
            ),
            "blank_instructions": sum(not query.instructions[0].strip() for query in queries),
        },
    )


def measures(pairs: Pairs) -> dict[str, float]:
    """Recall over the gallery, recall over the subset, and the summary of both."""
    found = recalls(pairs, (1, 5, 10, 50))
    for k in (1, 2, 3):
        hits = [is_found(ranking.members, query.targets, k) for query, ranking in pairs]
        found[f"recall_subset@{k}"] = float(np.mean(hits))
    return found | {"summary": (found["recall@5"] + found["recall_subset@1"]) / 2}


def predictions(benchmark: Benchmark, rankings: Mapping[str, Ranking]) -> dict[str, Any]:
    """The server's two files."""
    head = {metric: {"version": VERSION, "metric": metric} for metric in PLACES}
    return {
        f"cirr.{benchmark.split}.recall.json": head["recall"]
        | {query: list(ranking.nearest[: PLACES["recall"]]) for query, ranking in rankings.items()},
        f"cirr.{benchmark.split}.recall_subset.json": head["recall_subset"]
        | {query: list(ranking.members[: PLACES["recall_subset"]]) for query, ranking in rankings.items()},
    }


def sheet(benchmark: Benchmark, file: Path, content: Any) -> Sheet:
    """Read one of the server's files; its `metric` tells which. Raises UserError for another form."""
    head = (content.get("version"), content.get("metric")) if isinstance(content, dict) else None
    if head not in [(VERSION, metric) for metric in PLACES]:
        raise UserError(
            f'{file}: is no object with "version": "{VERSION}" and "metric": "recall" or "recall_subset"; '
            "add them beside the pairids"
        )
    metric = content["metric"]
    given = {key: answer for key, answer in content.items() if key not in ("version", "metric")}
    return Sheet(benchmark.queries, given, places=PLACES[metric], from_members=metric == "recall_subset")


def _pictures(release: Release, listing: str) -> dict[str, Picture]:
    listed = read_json(release.root / listing)
    if not isinstance(listed, dict) or not all(isinstance(path, str) for path in listed.values()):
        raise malformed(str(release.root / listing), "is no object of names and paths")
    # paths begin with "./", which would make two names of one folder
    paths = {name: PurePosixPath(path).as_posix() for name, path in listed.items()}
    top = next((path.split("/")[0] for path in paths.values()), "")
    folder = release.folder(top, f"cirr/img_raw/{top}").removesuffix(top)
    return {name: Picture(name, release.picture(folder + path)) for name, path in paths.items()}


def _queries(path: Path, split: str, pictures: Mapping[str, Picture]) -> list[Query]:
    queries = [_query(where, entry, split, pictures) for where, entry in read_entries(path)]
    if len({query.id for query in queries}) < len(queries):
        raise malformed(str(path), "has a pairid twice")
    return queries


def _query(where: str, entry: Entry, split: str, pictures: Mapping[str, Picture]) -> Query:
    reference = text(entry, "reference", where)
    targets = (text(entry, "target_hard", where),) if split == "val" else ()
    image_set = entry.get("img_set")
    if not isinstance(image_set, dict):
        raise malformed(where, "has no 'img_set'")
    members = texts(image_set, "members", where)
    if len(set(members)) != MEMBERS or len(members) != MEMBERS or reference not in members:
        raise malformed(where, f"'members' are not {MEMBERS} pictures with the reference among them")
    others = tuple(member for member in members if member != reference)
    for picture in (*members, *targets):
        if picture not in pictures:
            raise malformed(where, f"the picture {picture} is not in the split's list")
    if not set(targets) <= set(others):
        raise malformed(where, "the target is not among the other members of its image set")
    return Query(
        id=str(number(entry, "pairid", where)),
        gallery=GALLERY,
        reference=pictures[reference],
        instructions=(text(entry, "caption", where),),
        targets=targets,
        left_out=(reference,),
        members=others,
        annotation=entry,
    )
