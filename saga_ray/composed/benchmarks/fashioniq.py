"""FashionIQ: "like this dress, but is longer and has no sleeves", in three categories.

    captions/cap.{dress,shirt,toptee}.{val,test}.json     [{candidate, captions [2], target (val only)}]
    image_splits/split.{dress,shirt,toptee}.{val,test}.json   [id]
    images/{id}.jpg or .png

`candidate` is the reference. Its own category is a query's gallery, the reference **not** removed. Two
protocols, whose numbers do not compare: `standard`, the whole split list; `captioned`, only the pictures that
the split's captions name (fewer, so easier; val only, since the test captions hide their targets).

A caption loses `.`, `?`, `,` and blanks at both ends; a query's two are joined by " and ", in both orders. A
blank caption is left to the other one. A val query whose captions are both blank asks nothing: it is left
out and counted. In the test split it stays, with an empty instruction, since the challenge wants an answer to
every entry.

Measures: recall@10 and recall@50, their means over categories first. Counts: `blank_captions`,
`queries_left_out`.
Source: Wu et al., "Fashion IQ" (2021), and its starter kit, which ranks 50 pictures for the challenge.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saga_ray.composed.benchmarks.base.measures import Pairs, mean_over_kinds, recalls
from saga_ray.composed.benchmarks.base.pictures import Picture
from saga_ray.composed.benchmarks.base.predictions import Sheet
from saga_ray.composed.benchmarks.base.queries import Benchmark, Gallery, Query
from saga_ray.composed.benchmarks.base.ranking import DEPTH, Ranking
from saga_ray.data.release import (
    Release,
    difference,
    malformed,
    read_entries,
    read_json,
    text,
    texts,
)
from saga_ray.errors import UserError

SPLITS = ("val", "test")
PROTOCOLS = ("standard", "captioned")
CATEGORIES = ("dress", "shirt", "toptee")
OFFICIAL_QUERIES = {
    "val": {"dress": 2017, "shirt": 2038, "toptee": 1961},
    "test": {"dress": 2024, "shirt": 2038, "toptee": 2056},
}
OFFICIAL_PICTURES = {
    "val": {"dress": 3817, "shirt": 6346, "toptee": 5373},
    "test": {"dress": 3818, "shirt": 6346, "toptee": 5374},
}
THINGS = {"dress": "dress", "shirt": "shirt", "toptee": "shirt"}
"""What prompts name a category's pictures (E5-V, arXiv 2407.12580)."""
MARKS = ".?, "
"""What a caption loses at both ends."""


def read(root: Path, split: str, protocol: str) -> Benchmark:
    """The three categories of a split. Raises UserError for what is missing or malformed."""
    if protocol == "captioned" and split != "val":
        raise UserError(
            f"fashioniq: the captioned gallery is made of targets, which {split} hides; "
            "use the standard protocol, or val"
        )
    release = Release("fashioniq", root)
    galleries: dict[str, Gallery] = {}
    queries: list[Query] = []
    differs: list[str] = []
    for category in CATEGORIES:
        captions = f"captions/cap.{category}.{split}.json"
        listing = f"image_splits/split.{category}.{split}.json"
        # both, not one or none: everything that is missing is told at once
        if not all([release.has(captions), release.has(listing)]):
            continue
        listed = _listed(root / listing)
        own = _queries(release, captions, category, split, set(listed))
        differs += difference(captions, len(own), OFFICIAL_QUERIES[split][category])
        differs += difference(listing, len(listed), OFFICIAL_PICTURES[split][category])
        if protocol == "captioned":
            named = {query.reference.id for query in own}.union(*(query.targets for query in own))
            listed = [picture for picture in listed if picture in named]
        galleries[category] = Gallery(
            category, tuple(_picture(release, picture, category) for picture in listed)
        )
        queries += own
    release.refuse_if_incomplete()
    asking = [query for query in queries if any(query.instructions) or not query.targets]
    if not asking:
        raise UserError(f"{root}: all captions of {split} are blank; get the release again")
    counts = {
        "blank_captions": sum(not clean(caption) for query in queries for caption in _captions(query)),
        "queries_left_out": len(queries) - len(asking),
    }
    return Benchmark("fashioniq", split, protocol, galleries, tuple(asking), tuple(differs), counts)


def clean(caption: str) -> str:
    """A caption without `MARKS` at its ends; "" for a blank one."""
    return caption.strip(MARKS) if caption.strip(MARKS).strip() else ""


def instructions(captions: tuple[str, ...]) -> tuple[str, ...]:
    """Both orders of two captions, the order of the release first; one, or "", where the others are blank."""
    said = [caption for caption in map(clean, captions) if caption]
    return tuple(dict.fromkeys((" and ".join(said), " and ".join(reversed(said)))))


def measures(pairs: Pairs) -> dict[str, float]:
    """recall@10, recall@50: the means over categories, then each category's."""
    return mean_over_kinds(pairs, lambda own: recalls(own, (10, 50)))


def predictions(benchmark: Benchmark, rankings: Mapping[str, Ranking]) -> dict[str, Any]:
    """The challenge's files: each category's captions with a `ranking` of 50 ids an entry."""
    return {
        f"{category}.{benchmark.split}.pred.json": [
            {**query.annotation, "ranking": list(rankings[query.id].nearest)}
            for query in benchmark.queries
            if query.kind == category
        ]
        for category in CATEGORIES
    }


def sheet(benchmark: Benchmark, file: Path, content: Any) -> Sheet:
    """Read a challenge file; its name tells the category. Raises UserError for another form."""
    category = file.name.partition(".")[0]
    if category not in CATEGORIES:
        raise UserError(
            f"{file}: the name does not begin with a category; call it dress.{benchmark.split}.pred.json "
            "or shirt.… or toptee.…"
        )
    queries = tuple(query for query in benchmark.queries if query.kind == category)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise UserError(f"{file}: is no list of entries; write the split's captions with a `ranking` each")
    for number, (query, entry) in enumerate(zip(queries, content, strict=False), 1):
        if any(entry.get(key) != query.annotation[key] for key in ("candidate", "captions")):
            raise UserError(
                f"{file} entry {number}: is not about {query.reference.id} as in the split's captions; "
                "keep the captions' order and add a `ranking` to each"
            )
    names = [query.id for query in queries] + [
        f"{category}/{number}" for number in range(len(queries) + 1, len(content) + 1)
    ]
    given = {name: entry.get("ranking") for name, entry in zip(names, content, strict=False)}
    return Sheet(queries, given, places=DEPTH, more=True)


def _listed(path: Path) -> list[str]:
    listed = read_json(path)
    if not isinstance(listed, list) or not all(isinstance(each, str) for each in listed):
        raise malformed(str(path), "is no list of picture ids")
    if len(set(listed)) < len(listed):
        raise malformed(str(path), "lists a picture twice")
    return listed


def _queries(release: Release, file: str, category: str, split: str, listed: set[str]) -> list[Query]:
    found = []
    for number, (where, entry) in enumerate(read_entries(release.root / file), 1):
        captions = texts(entry, "captions", where)
        if len(captions) != 2:
            raise malformed(where, f"has {len(captions)} captions and not 2")
        targets = () if split == "test" else (text(entry, "target", where),)
        for target in targets:
            if target not in listed:
                raise malformed(where, f"the target {target} is not in the split's list of pictures")
        found.append(
            Query(
                id=f"{category}/{number}",
                gallery=category,
                reference=_picture(release, text(entry, "candidate", where), category),
                instructions=instructions(captions),
                targets=targets,
                kind=category,
                annotation=entry,
            )
        )
    return found


def _picture(release: Release, picture: str, category: str) -> Picture:
    # some releases hold both: the JPEG is the original
    path = release.picture(f"images/{picture}.jpg", f"images/{picture}.png")
    return Picture(picture, path, thing=THINGS[category])


def _captions(query: Query) -> list[str]:
    captions: list[str] = query.annotation["captions"]
    return captions
