"""CIRCO: "is held by a little girl on a chair", with several right answers a query, among COCO's unlabeled
pictures.

    annotations/{val,test}.json     [{id, reference_img_id, relative_caption, shared_concept,
                                      target_img_id, gt_img_ids, semantic_aspects (val only)}]
    COCO2017_unlabeled/unlabeled2017/{id:012d}.jpg, or unlabeled2017/…
    COCO2017_unlabeled/annotations/image_info_unlabeled2017.json   COCO's list; may be absent

The gallery is all of COCO 2017 unlabeled, the reference **not** removed: what COCO's list names, or what
lies in the folder where the list is absent. The instruction is the relative caption alone, without
`shared_concept`.

Measures: map@5, @10, @25, @50 over all right answers; recall@5, @10, @25, @50 of the one target that the
caption was written for; map@10/{aspect} over the queries with a semantic aspect. Counts:
`blank_instructions`.
Source: Baldrati et al., "Zero-Shot Composed Image Retrieval with Textual Inversion" (2023), and its server's
description.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from saga_ray.composed.benchmarks.base.measures import Pairs, average_precision_at, recalls
from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.benchmarks.base.predictions import Sheet
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.composed.benchmarks.base.ranking import DEPTH, Ranking
from saga_ray.data.release import (
    Entry,
    Release,
    difference,
    is_number,
    malformed,
    number,
    numbers,
    read_entries,
    read_json,
    text,
    texts,
)
from saga_ray.errors import UserError

SPLITS = ("val", "test")
PROTOCOLS = ("standard",)
OFFICIAL_QUERIES = {"val": 220, "test": 800}
OFFICIAL_PICTURES = 123_403
GALLERY = "all"
PICTURES = ("COCO2017_unlabeled/unlabeled2017", "unlabeled2017")
LISTING = "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json"
FILE_NAME = re.compile(r"\d{12}\.jpg")
KS = (5, 10, 25, 50)


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """A split. Raises UserError for what is missing or malformed."""
    release = Release("circo", root)
    folder = release.folder(*PICTURES)
    annotations = f"annotations/{split}.json"
    queries = _queries(release, folder, annotations, split) if release.has(annotations) else []
    release.want_folder(folder)
    pictures = [_picture(release, folder, picture) for picture in _listed(release, folder)]
    release.refuse_if_incomplete()
    gallery = Gallery(GALLERY, tuple(pictures))
    for query in queries:
        for picture in query.truths:
            if picture not in gallery.rows:
                raise malformed(f"{root / annotations} id {query.id}", f"{picture} is not in {LISTING}")
    return Benchmark(
        "circo",
        split,
        protocol,
        galleries={GALLERY: gallery},
        queries=tuple(queries),
        differs=(
            *difference(annotations, len(queries), OFFICIAL_QUERIES[split]),
            *difference(folder, len(pictures), OFFICIAL_PICTURES),
        ),
        counts={"blank_instructions": sum(not query.instructions[0].strip() for query in queries)},
    )


def measures(pairs: Pairs) -> dict[str, float]:
    """Mean average precision, recall of the one target, and mean average precision by semantic aspect."""

    def mean_ap(own: Pairs, k: int) -> float:
        each = [average_precision_at(ranking.nearest, query.truths, k) for query, ranking in own]
        return float(np.mean(each))

    found = {f"map@{k}": mean_ap(pairs, k) for k in KS} | recalls(pairs, KS)
    for aspect in sorted({aspect for query, _ in pairs for aspect in query.aspects}):
        found[f"map@10/{aspect}"] = mean_ap([pair for pair in pairs if aspect in pair[0].aspects], 10)
    return found


def predictions(benchmark: Benchmark, rankings: Mapping[str, Ranking]) -> dict[str, Any]:
    """The server's file: 50 picture ids a query."""
    answers = {
        query: [int(picture) for picture in ranking.nearest[:DEPTH]] for query, ranking in rankings.items()
    }
    return {f"circo.{benchmark.split}.json": answers}


def sheet(benchmark: Benchmark, file: Path, content: Any) -> Sheet:
    """Read a server's file. Raises UserError for another form."""
    if not isinstance(content, dict):
        raise UserError(f"{file}: is no object of query ids and lists of picture ids; write one")
    return Sheet(benchmark.queries, {query: _as_ids(answer) for query, answer in content.items()}, DEPTH)


def _as_ids(answer: Any) -> Any:
    """The file has numbers where a gallery has texts; anything else is left for the check to find."""
    if not isinstance(answer, list):
        return answer
    return [str(each) if is_number(each) else None for each in answer]


def _queries(release: Release, folder: str, annotations: str, split: str) -> list[Query]:
    path = release.root / annotations
    queries = [_query(release, folder, where, entry, split) for where, entry in read_entries(path)]
    if len({query.id for query in queries}) < len(queries):
        raise malformed(str(path), "has an id twice")
    return queries


def _query(release: Release, folder: str, where: str, entry: Entry, split: str) -> Query:
    targets: tuple[str, ...] = ()
    truths: tuple[str, ...] = ()
    if split == "val":
        targets = (str(number(entry, "target_img_id", where)),)
        truths = tuple(map(str, numbers(entry, "gt_img_ids", where)))
        if targets[0] not in truths or len(set(truths)) < len(truths):
            raise malformed(where, "'gt_img_ids' lacks the target or has a picture twice")
        for picture in truths:
            _picture(release, folder, int(picture))
    return Query(
        id=str(number(entry, "id", where)),
        gallery=GALLERY,
        reference=_picture(release, folder, number(entry, "reference_img_id", where)),
        instructions=(text(entry, "relative_caption", where),),
        targets=targets,
        truths=truths,
        # the first release of the annotations had none
        aspects=texts(entry, "semantic_aspects", where) if "semantic_aspects" in entry else (),
        annotation=entry,
    )


def _listed(release: Release, folder: str) -> list[int]:
    """The gallery's ids, in order."""
    path = release.root / LISTING
    if not path.is_file():
        return sorted(int(name[:12]) for name in release.files_in(folder) if FILE_NAME.fullmatch(name))
    listing = read_json(path)
    images = listing.get("images") if isinstance(listing, dict) else None
    if not isinstance(images, list) or not all(
        isinstance(image, dict) and is_number(image.get("id")) for image in images
    ):
        raise malformed(str(path), "has no list 'images' with an 'id' each")
    return sorted({image["id"] for image in images})


def _picture(release: Release, folder: str, picture: int) -> Picture:
    return Picture(str(picture), release.picture(f"{folder}/{picture:012d}.jpg"))
