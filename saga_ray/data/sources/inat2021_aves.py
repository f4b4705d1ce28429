"""The birds of iNaturalist 2021's small training set: photos by amateurs, one class a species.

    train_mini.json                                {images, annotations, categories}, as in COCO
    train_mini/{category's image_dir_name}/*.jpg   50 pictures a species

Birds are the categories whose `class` is Aves (their `supercategory` is Birds; that was called Aves in 2018).
Sorted by directory, the first half of them is train, the second test.
Source: Van Horn et al., "Benchmarking representation learning for natural world image collections" (2021);
the split is that of SAGA.
"""

from __future__ import annotations

from pathlib import Path

from saga_ray.data.listings import differences, open_release
from saga_ray.data.release import Entry, malformed, number, read_json, text
from saga_ray.data.rows import Rows

ANNOTATIONS = "train_mini.json"
PICTURES = "train_mini"
BIRDS = "Aves"
OFFICIAL = {"train": (37150, 743), "test": (37150, 743)}


def rows(location: str | None) -> Rows:
    """`location` is the folder that holds train_mini and train_mini.json. Pictures stand in the order of the
    annotations."""
    release = open_release("inat2021_aves", location)
    release.has(ANNOTATIONS)
    release.want_folder(PICTURES)
    release.refuse_if_incomplete()
    path = release.root / ANNOTATIONS
    whole = read_json(path)
    birds = {
        number(category, "id", where): text(category, "image_dir_name", where)
        for where, category in _entries(path, whole, "categories")
        if text(category, "class", where) == BIRDS
    }
    if not birds:
        raise malformed(str(path), f"has no category of the class {BIRDS}")
    files = {
        number(image, "id", where): text(image, "file_name", where)
        for where, image in _entries(path, whole, "images")
    }
    labels, pictures = [], []
    for where, annotation in _entries(path, whole, "annotations"):
        if (category := number(annotation, "category_id", where)) in birds:
            image = number(annotation, "image_id", where)
            if image not in files:
                raise malformed(where, f"there is no picture with the id {image}")
            labels.append(birds[category])
            pictures.append(files[image])
    directories = sorted(birds.values())
    train = set(directories[: len(directories) // 2])
    splits = ["train" if label in train else "test" for label in labels]
    return Rows(
        name="inat2021_aves",
        images=[str((release.root / picture).absolute()) for picture in pictures],
        where=pictures,
        labels=labels,
        splits=splits,
        differs=differences(labels, splits, OFFICIAL),
    )


def _entries(path: Path, whole: object, key: str) -> list[tuple[str, Entry]]:
    """One of the file's three lists, each entry with how to name it to a person."""
    found = whole.get(key) if isinstance(whole, dict) else None
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise malformed(str(path), f"holds no list of {key}")
    return [(f"{path} {key} {place}", entry) for place, entry in enumerate(found, 1)]
