"""In-Shop Clothes Retrieval (DeepFashion): shop photos of clothes, one class an item.

    Eval/list_eval_partition.txt   number of rows, header, then `image item status`
    img/WOMEN/Dresses/id_00000002/02_1_front.jpg   also as Img/img/…

`status` is train, query or gallery. Queries and gallery are of the same items and both are `test`; the
attribute `role` says which of the two a picture is, and is empty for train. Queries search the gallery alone
(`saga_ray.retrieval.protocol`): no query is a candidate. There is no validation part.
Source: Liu et al., "DeepFashion" (2016).
"""

from __future__ import annotations

from saga_ray.data.listings import differences, open_release, read_rows
from saga_ray.data.release import malformed
from saga_ray.data.rows import GALLERY, QUERY, Rows
from saga_ray.errors import UserError

LIST = "Eval/list_eval_partition.txt"
SPLIT = {"train": "train", QUERY: "test", GALLERY: "test"}
"""The split of each status."""
OFFICIAL = {"train": (25882, 3997), QUERY: (14218, 3985), GALLERY: (12612, 3985)}


def rows(location: str | None) -> Rows:
    """`location` is the folder that holds Eval. Raises UserError where the rows are not as many as the list
    says."""
    release = open_release("inshop", location)
    release.has(LIST)
    pictures = release.folder("img", "Img/img")
    release.want_folder(pictures)
    release.refuse_if_incomplete()
    statuses, labels, where = [], [], []
    for line, (path, label, status) in read_rows(release.root / LIST, 3, header=2):
        if status not in SPLIT:
            raise malformed(line, f"the status {status!r} is none of {', '.join(SPLIT)}")
        if not path.startswith("img/"):
            raise malformed(line, f"the picture {path!r} is not in img/")
        statuses.append(status)
        labels.append(label)
        where.append(pictures + path.removeprefix("img"))
    _, (count,) = next(read_rows(release.root / LIST, 1), ("", ["0"]))
    if count != str(len(where)):
        raise UserError(
            f"{release.root / LIST}: has {len(where):,} rows, its first line says {count}; get the file again"
        )
    return Rows(
        name="inshop",
        images=[str((release.root / path).absolute()) for path in where],
        where=where,
        labels=labels,
        splits=[SPLIT[status] for status in statuses],
        attributes={"role": ["" if status == "train" else status for status in statuses]},
        differs=differences(labels, statuses, OFFICIAL),
        role_column="role",
    )
