"""Cars-196: photos of cars, one class a make, model and year. Two releases, which hold the same pictures:

    cars_annos.mat                            annotations (relative_im_path, class, test, …), class_names
    car_ims/000001.jpg

    devkit/cars_meta.mat                      class_names
    devkit/cars_train_annos.mat               annotations (fname, class, …)
    devkit/cars_test_annos_withlabels.mat     the same; also beside devkit, since it was published later
    cars_train/00001.jpg, cars_test/00001.jpg

The official parts are merged; classes 1 to `TRAINED` are train, the others test. The first release is read
where both are there.
Source: Krause et al., "3D object representations for fine-grained categorization" (2013).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import loadmat

from saga_ray.data.listings import differences, open_release
from saga_ray.data.release import Release, malformed
from saga_ray.data.rows import Rows
from saga_ray.errors import UserError

TRAINED = 98
WHOLE = "cars_annos.mat"
META = "devkit/cars_meta.mat"
TRAIN = "devkit/cars_train_annos.mat"
TEST = "cars_test_annos_withlabels.mat"
OFFICIAL = {"train": (8054, 98), "test": (8131, 98)}


def rows(location: str | None) -> Rows:
    """`location` is the folder that holds car_ims, or devkit."""
    release = open_release("cars", location)
    first = (release.root / WHOLE).is_file() or not (release.root / "devkit").is_dir()
    names, listed = _whole(release) if first else _in_parts(release)
    labels, splits, where = [], [], []
    for entry, path, number in listed:
        if not 1 <= number <= len(names):
            raise malformed(entry, f"the class {number} is none of the {len(names)} in class_names")
        labels.append(names[number - 1])
        splits.append("train" if number <= TRAINED else "test")
        where.append(path)
    return Rows(
        name="cars",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=splits,
        differs=differences(labels, splits, OFFICIAL),
    )


Listed = Iterator[tuple[str, str, int]]
"""How to name an entry to a person, the picture's path in the release, its class from 1."""


def _whole(release: Release) -> tuple[list[str], Listed]:
    release.has(WHOLE)
    release.want_folder("car_ims")
    release.refuse_if_incomplete()
    return _names(release.root / WHOLE), _annotations(release.root / WHOLE, "relative_im_path", "")


def _in_parts(release: Release) -> tuple[list[str], Listed]:
    beside = (release.root / TEST).is_file()
    test = TEST if beside else f"devkit/{TEST}"
    parts = {TRAIN: "cars_train", test: "cars_test"}
    for file in (META, *parts):
        release.has(file)
    for folder in parts.values():
        release.want_folder(folder)
    release.refuse_if_incomplete()
    return _names(release.root / META), (
        entry
        for file, folder in parts.items()
        for entry in _annotations(release.root / file, "fname", f"{folder}/")
    )


def _names(path: Path) -> list[str]:
    names = [str(name) for name in np.atleast_1d(_load(path, "class_names"))]
    if len(set(names)) < len(names):
        raise malformed(str(path), "class_names holds a name twice")
    return names


def _annotations(path: Path, picture: str, prefix: str) -> Listed:
    """Entries of a file; `picture` is the field that holds the path, below `prefix`."""
    found = np.atleast_1d(_load(path, "annotations"))
    for field in (picture, "class"):
        if field not in (found.dtype.names or ()):
            raise malformed(str(path), f"annotations have no field {field!r}")
    for place, (name, number) in enumerate(zip(found[picture], found["class"], strict=True), 1):
        entry = f"{path} annotation {place}"
        try:
            yield entry, f"{prefix}{name}", int(number)
        except (TypeError, ValueError) as error:
            raise malformed(entry, f"the class {number!r} is no whole number") from error


def _load(path: Path, variable: str) -> Any:
    """A variable of a MATLAB file, without axes of length 1."""
    try:
        content = loadmat(path, squeeze_me=True)
    # scipy raises nearly anything for what is no MATLAB file of version 7 or older
    except Exception as error:
        raise UserError(f"{path}: cannot be read as a MATLAB file: {str(error).splitlines()[0]}") from error
    if variable not in content:
        raise malformed(str(path), f"holds no {variable!r}")
    return content[variable]
