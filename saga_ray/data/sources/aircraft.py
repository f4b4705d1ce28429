"""FGVC-Aircraft: photos of planes, one class a variant (`747-400`, `F/A-18`, `Cessna 172`).

    fgvc-aircraft-2013b/data/variants.txt                        a variant a line, 100
    fgvc-aircraft-2013b/data/images_variant_{trainval,test}.txt  `id variant`, the variant may hold blanks
    fgvc-aircraft-2013b/data/images/{id}.jpg                     seven digits

Both lists are pooled. The first half of variants.txt, in its order, is train, the second is test. Every
picture ends in a banner with its photographer, `BANNER` pixels high: it is cut off, since it is no plane.
Source: Maji et al., "Fine-grained visual classification of aircraft" (2013).
"""

from __future__ import annotations

from saga_ray.data.listings import differences, open_release, read_rows
from saga_ray.data.release import malformed
from saga_ray.data.rows import Rows

VARIANTS = "data/variants.txt"
LISTS = ("data/images_variant_trainval.txt", "data/images_variant_test.txt")
PICTURES = "data/images"
BANNER = 20
OFFICIAL = {"train": (5000, 50), "test": (5000, 50)}


def rows(location: str | None) -> Rows:
    """`location` is the folder fgvc-aircraft-2013b, or the one that holds it."""
    release = open_release("aircraft", location, "fgvc-aircraft-2013b")
    for file in (VARIANTS, *LISTS):
        release.has(file)
    release.want_folder(PICTURES)
    release.refuse_if_incomplete()
    variants = list(dict.fromkeys(name for _, (name,) in read_rows(release.root / VARIANTS, 1)))
    half = len(variants) // 2
    split_of = {name: "train" if place < half else "test" for place, name in enumerate(variants)}
    labels, where = [], []
    for file in LISTS:
        for line, (picture, variant) in read_rows(release.root / file, 2):
            if variant not in split_of:
                raise malformed(line, f"the variant {variant!r} is not in {VARIANTS}")
            labels.append(variant)
            where.append(f"{PICTURES}/{picture}.jpg")
    splits = [split_of[label] for label in labels]
    return Rows(
        name="aircraft",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=splits,
        banner=BANNER,
        differs=differences(labels, splits, OFFICIAL),
    )
