"""iNaturalist 2018 in the class-disjoint split of Smooth-AP: plants and animals, one class a species.

    Inaturalist_train_set1.txt, Inaturalist_test_set1.txt   a picture's path a line
    train_val2018/Aves/2761/ab4ee5e4a1a8d6b2e6f2b3d0b5f0f3a7.jpg

The lists are Smooth-AP's; they lie beside `train_val2018`, or in `Inat_dataset_splits` as they come. A class
is a picture's last two folders, `Aves/2761`: the group and the category's number.
Source: Van Horn et al., "The iNaturalist species classification and detection dataset" (2018); Brown et al.,
"Smooth-AP" (2020).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from saga_ray.data.listings import differences, open_release, read_rows
from saga_ray.data.release import malformed
from saga_ray.data.rows import Rows

LISTS = {"train": "Inaturalist_train_set1.txt", "test": "Inaturalist_test_set1.txt"}
FOLDER_OF_LISTS = "Inat_dataset_splits"
OFFICIAL = {"train": (325846, 5690), "test": (136093, 2452)}


def rows(location: str | None) -> Rows:
    """`location` is the folder that holds train_val2018."""
    release = open_release("inat2018", location)
    folder = f"{FOLDER_OF_LISTS}/" if (release.root / FOLDER_OF_LISTS).is_dir() else ""
    for file in LISTS.values():
        release.has(folder + file)
    release.want_folder("train_val2018")
    release.refuse_if_incomplete()
    splits, labels, where = [], [], []
    for split, file in LISTS.items():
        for line, (path,) in read_rows(release.root / (folder + file), 1):
            parents = PurePosixPath(path).parts[:-1]
            if len(parents) < 2:
                raise malformed(line, f"{path!r} has no two folders that name its class")
            splits.append(split)
            labels.append("/".join(parents[-2:]))
            where.append(path)
    return Rows(
        name="inat2018",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=splits,
        differs=differences(labels, splits, OFFICIAL),
    )
