"""Miniatures of each official release, in its layout, with its traps; and scores to rank them by."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from saga_ray.composed.benchmarks import Benchmark, Ranking, rank

Entry = dict[str, Any]


def picture(path: Path, width: int = 6, height: int = 4) -> None:
    """A tiny picture; its colours depend on its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shade = zlib.crc32(path.name.encode()) % 256
    Image.new("RGB", (width, height), (shade, 255 - shade, 90)).save(path)


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    """Change a JSON file in place; what `change` returns, if anything, becomes the content."""
    value = json.loads(path.read_text())
    changed = change(value)
    write(path, value if changed is None else changed)


def edit_entry(path: Path, place: int, change: Callable[[Entry], Any]) -> None:
    """Change one entry of a JSON list in place, whatever `change` returns."""
    entries = json.loads(path.read_text())
    change(entries[place])
    write(path, entries)


def fashioniq(root: Path) -> Path:
    """Three categories of 5 pictures; val has 3 queries each: two captions, one, none. Test has 2."""
    for category in ("dress", "shirt", "toptee"):
        ids = [f"{category[0].upper()}{number}" for number in range(5)]
        for split in ("val", "test"):
            write(root / f"image_splits/split.{category}.{split}.json", ids)
        for name in ids[:3]:
            picture(root / f"images/{name}.jpg")
        for name in ids[2:]:  # the third is there in both forms
            picture(root / f"images/{name}.png")
        said = [["is longer. ", " has no sleeves?"], ["  ", "is red,"], [" ?", "."]]
        val = [
            {"target": ids[place + 1], "candidate": ids[0], "captions": captions}
            for place, captions in enumerate(said)
        ]
        write(root / f"captions/cap.{category}.val.json", val)
        test = [{"candidate": ids[0], "captions": captions} for captions in (said[0], said[2])]
        write(root / f"captions/cap.{category}.test.json", test)
    return root


def cirr(root: Path) -> Path:
    """60 pictures a split, 3 queries; the second lists its reference among its soft targets."""
    for split, top in (("val", "dev"), ("test1", "test1")):
        names = [f"{top}-{number}-0-img0" for number in range(60)]
        write(
            root / f"cirr/image_splits/split.rc2.{split}.json",
            {name: f"./{top}/{name}.png" for name in names},
        )
        for name in names:
            picture(root / f"{top}/{name}.png")
        entries = [
            {
                "pairid": 100 + number,
                "reference": names[number],
                "caption": "" if split == "test1" and number == 2 else f"show {number} dogs",
                "img_set": {"id": number, "members": names[number : number + 6]},
            }
            for number in range(3)
        ]
        if split == "val":
            for number, entry in enumerate(entries):
                entry["target_hard"] = names[number + 2]
                entry["target_soft"] = {names[number + 2]: 1.0}
            entries[1]["target_soft"] = {names[1]: 0.5, names[3]: 1.0}
        write(root / f"cirr/captions/cap.rc2.{split}.json", entries)
    return root


def circo(root: Path, *, listed: bool = False) -> Path:
    """60 pictures, numbered from 10; 3 val queries of 1 to 3 right answers, 2 test queries."""
    ids = list(range(10, 70))
    for number in ids:
        picture(root / f"COCO2017_unlabeled/unlabeled2017/{number:012d}.jpg")
    val = [
        {
            "id": query,
            "reference_img_id": ids[query],
            "relative_caption": f"has {query} more",
            "shared_concept": "a dog",
            "target_img_id": ids[query + 5],
            "gt_img_ids": ids[query + 5 : 2 * query + 6],
            "semantic_aspects": ["addition"] if query == 0 else ["addition", "negation"],
        }
        for query in range(3)
    ]
    write(root / "annotations/val.json", val)
    test = ("id", "reference_img_id", "relative_caption", "shared_concept")
    write(root / "annotations/test.json", [{key: entry[key] for key in test} for entry in val[:2]])
    if listed:
        images = [{"id": number, "file_name": f"{number:012d}.jpg"} for number in reversed(ids)]
        write(root / "COCO2017_unlabeled/annotations/image_info_unlabeled2017.json", {"images": images})
    return root


def genecis(root: Path, queries: int = 2, distractors: int = 4) -> Path:
    """Four tasks; every target stands first, each box in a picture of 40 x 30 pixels."""
    for task in ("focus_object", "change_object"):
        entries = [
            {
                "condition": "wall",
                "reference": {"val_image_id": 1000},
                "target": {"val_image_id": 2000 + query},
                "gallery": [{"val_image_id": 3000 + query * distractors + d} for d in range(distractors)],
            }
            for query in range(queries)
        ]
        write(root / f"{task}.json", entries)
        for entry in entries:
            for shown in (entry["reference"], entry["target"], *entry["gallery"]):
                name = f"val2017/{shown['val_image_id']:012d}.jpg"
                if not (root / name).exists():
                    picture(root / name)
    for task in ("focus_attribute", "change_attribute"):
        entries = [
            {
                "condition": "colour",
                "reference": {"image_id": "7", "instance_bbox": [0, 0, 10, 10]},
                "target": {"image_id": 8, "instance_bbox": [query % 30, 1.5, 8.0, 8.25]},
                "gallery": [
                    {"image_id": "9", "instance_bbox": [query % 30, d, 5, 5]} for d in range(distractors)
                ],
            }
            for query in range(queries)
        ]
        write(root / f"{task}.json", entries)
    for name in ("VG_100K/7.jpg", "VG_100K_2/8.jpg", "VG_100K_2/9.jpg"):
        picture(root / name, 40, 30)
    return root


def triplets(root: Path, lines: Iterable[Any] | None = None) -> Path:
    """Pictures a.jpg, b.jpg, sub/c.png, d.webp and a line that wants b or c for a."""
    for name in ("a.jpg", "b.jpg", "sub/c.png", "d.webp"):
        picture(root / name)
    if lines is None:
        lines = [{"reference": "a.jpg", "instruction": "in red", "target": ["b.jpg", "sub/c.png"]}]
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (root / "triplets.jsonl").write_text(text)
    return root


def ranked(benchmark: Benchmark, scores: Callable[[str, str], float], *, seed: int = 0) -> list[Ranking]:
    """Rank every query by a function of (query id, picture id)."""
    return [
        rank(
            benchmark,
            query,
            np.array([scores(query.id, each.id) for each in benchmark.galleries[query.gallery].pictures]),
            seed=seed,
        )
        for query in benchmark.queries
    ]


def chance(query: str, picture: str) -> float:
    """Scores without a tie that look random and do not depend on any order."""
    return zlib.crc32(f"{query}|{picture}".encode()) / 2**32


def constant(query: str, picture: str) -> float:
    return 0.5
