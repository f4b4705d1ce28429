"""Stanford Online Products: photos of things for sale, one class an offer.

    Ebay_train.txt, Ebay_test.txt     header, then `image_id class_id super_class_id path`
    bicycle_final/111085122871_0.JPG  and 11 further folders, one a category

The split is that of the two files. The attribute `category` is the picture's folder without `_final`.
Source: Oh Song et al., "Deep metric learning via lifted structured feature embedding" (2016).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from saga_ray.data.listings import differences, open_release, read_rows
from saga_ray.data.rows import Rows

LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
OFFICIAL = {"train": (59551, 11318), "test": (60502, 11316)}


def rows(location: str | None) -> Rows:
    """`location` is the folder Stanford_Online_Products, or the one that holds it."""
    release = open_release("sop", location, "Stanford_Online_Products")
    for file in LISTS.values():
        release.has(file)
    release.refuse_if_incomplete()
    splits, labels, where = [], [], []
    for split, file in LISTS.items():
        for _, (_, label, _, path) in read_rows(release.root / file, 4, header=1):
            splits.append(split)
            labels.append(label)
            where.append(path)
    return Rows(
        name="sop",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=splits,
        attributes={"category": [PurePosixPath(path).parent.name.removesuffix("_final") for path in where]},
        differs=differences(labels, splits, OFFICIAL),
    )
