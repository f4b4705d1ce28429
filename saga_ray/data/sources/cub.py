"""CUB-200-2011: photos of birds, one class a species, with what people saw of each bird.

    CUB_200_2011/images.txt               `id path`, ids from 1
    CUB_200_2011/classes.txt              `id name`
    CUB_200_2011/image_class_labels.txt   `image class`
    CUB_200_2011/images/001.Black_footed_Albatross/*.jpg
    CUB_200_2011/attributes/image_attribute_labels.txt   `image attribute present certainty time`
    attributes.txt                        `id name::value`; at the archive's top, or in attributes/

Classes 1 to `TRAINED` are train, the others test. Only pictures that images.txt lists are read, so `._*`
files, which macOS left in the archive, are not.

Each name of attributes.txt is an attribute (`has_bill_shape`, 28 of them) with one value a picture: of the
values marked as present, the one that the annotator was surest of; of equally sure ones the first in
attributes.txt; none, hence "", where nothing is marked or the part was not visible (certainty 1). Some rows
of the labels hold more fields than they should, all after the certainty: they are read up to there.
Source: Wah et al., "The Caltech-UCSD Birds-200-2011 dataset" (2011).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from saga_ray.data.listings import differences, open_release, read_names, read_rows
from saga_ray.data.release import Release, malformed
from saga_ray.data.rows import Rows

TRAINED = 100
IMAGES, CLASSES, LABELS = "images.txt", "classes.txt", "image_class_labels.txt"
MARKS = "attributes/image_attribute_labels.txt"
ATTRIBUTES = ("attributes/attributes.txt", "attributes.txt", "../attributes.txt")
"""Where the attributes' names may lie, seen from CUB_200_2011."""
NOT_VISIBLE = "1"
CERTAINTIES = {NOT_VISIBLE, "2", "3", "4"}
"""Not visible, guessing, probably, definitely."""
OFFICIAL = {"train": (5864, 100), "test": (5924, 100)}


def rows(location: str | None) -> Rows:
    """`location` is the folder CUB_200_2011, or the one that holds it."""
    release = open_release("cub", location, "CUB_200_2011")
    for file in (IMAGES, CLASSES, LABELS, MARKS):
        release.has(file)
    names = next((file for file in ATTRIBUTES if (release.root / file).is_file()), ATTRIBUTES[0])
    release.has(names)
    release.want_folder("images")
    release.refuse_if_incomplete()
    images = read_names(release.root / IMAGES)
    classes = read_names(release.root / CLASSES)
    class_of = _classes(release, images, classes)
    labels = [classes[class_of[image]] for image in images]
    splits = ["train" if int(class_of[image]) <= TRAINED else "test" for image in images]
    where = [f"images/{path}" for path in images.values()]
    return Rows(
        name="cub",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=splits,
        attributes=_attributes(release.root / names, release.root / MARKS, images),
        differs=differences(labels, splits, OFFICIAL),
    )


def _classes(release: Release, images: Mapping[str, str], classes: Mapping[str, str]) -> dict[str, str]:
    """Class id of every picture id."""
    found: dict[str, str] = {}
    for where, (image, own) in read_rows(release.root / LABELS, 2):
        if own not in classes or not own.isdecimal():
            raise malformed(where, f"the class {own!r} is not in {CLASSES}")
        found[image] = own
    for image, path in images.items():
        if image not in found:
            raise malformed(str(release.root / LABELS), f"has no row for picture {image} ({path})")
    return found


def _attributes(names: Path, marks: Path, images: Mapping[str, str]) -> dict[str, list[str]]:
    """Attribute -> value of every picture, by the rule above."""
    row_of = {image: row for row, image in enumerate(images)}
    values: dict[str, tuple[int, str, str]] = {}
    for order, (key, name) in enumerate(read_names(names).items()):
        attribute, separator, value = name.partition("::")
        if not separator:
            raise malformed(f"{names} id {key}", f"{name!r} is no name::value")
        values[key] = (order, attribute, value)
    columns = {attribute: [""] * len(images) for _, attribute, _ in values.values()}
    best: dict[tuple[int, str], tuple[int, int]] = {}
    for where, (image, key, present, certainty, _) in read_rows(marks, 5):
        if image not in row_of or key not in values:
            raise malformed(where, f"picture {image} or attribute {key} is in no list")
        if present not in ("0", "1") or certainty not in CERTAINTIES:
            raise malformed(where, f"{present} {certainty} are no mark (0, 1) and certainty (1 to 4)")
        if present == "0" or certainty == NOT_VISIBLE:
            continue
        order, attribute, value = values[key]
        row, rank = row_of[image], (-int(certainty), order)
        if rank < best.get((row, attribute), (0, 0)):
            best[row, attribute] = rank
            columns[attribute][row] = value
    return columns
