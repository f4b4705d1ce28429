"""The files that ship: tables of pictures, and the note that names the artists."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saga_ray.data.furniture.catalogue import Item
from saga_ray.data.furniture.licences import CC0, LICENCE_PAGES, Provenance

ROW_GROUP = 512

ATTRIBUTION_HEAD = """\
# Furniture pictures: artists and licences

The pictures in this folder are **renders of artists' 3D models, not photographs**. The models come from the
Debian package `sweethome3d-furniture` 1.8-1, which collects furniture libraries of Sweet Home 3D
<https://www.sweethome3d.com>.

{free} models are dedicated to the public domain (CC0 1.0), {bound} are under Creative Commons
Attribution 3.0:

{pages}

**What was changed**: each model was rendered from eight angles at 112 x 112 pixels under added light, on a
plain background, and stored as JPEG; in `composed.parquet` one material of the model was also repainted in
another colour. Names, sizes and tags come from the libraries' catalogues; colours and attributes were
computed. The artists do not endorse this use. Each picture is under the licence of its model.

Copyright: Kator Legaz models 2003-2008 Andrew Kator & Jennifer Legaz <http://www.katorlegaz.com>; Scopia
models 2010-2012 Scopia Visual Interfaces Systems, s.l. <http://www.scopia.es>; Blend Swap models by the
contributors named below <http://www.blendswap.com>, cleaned and converted by Emmanuel Puybaret / eTeks. The
models come without warranty of any kind.

Each line names a model's title, its class in the tables, and its source where the library names one."""


def write_table(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a Parquet file in row groups of `ROW_GROUP`; the file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    pq.write_table(
        pa.Table.from_pylist(list(rows)), partial, row_group_size=ROW_GROUP, write_statistics=False
    )
    os.replace(partial, path)


def write_text(text: str, path: Path) -> None:
    """Write a text file; it appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def picture_rows(
    item: Item, jpegs: Sequence[bytes], split: str, group: str, licence: str, attributes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """One row a view of one model. Lengths in centimetres."""
    return [
        {
            "id": f"{item.label}/{view}",
            "image": jpeg,
            "label": item.label,
            "split": split,
            "view": view,
            **attributes,
            "name": item.name,
            "creator": item.creator,
            "licence": licence,
            "library": item.library,
            "tags": ", ".join(item.tags),
            "width": item.width,
            "depth": item.depth,
            "height_cm": item.height,
            "variants": group,
        }
        for view, jpeg in enumerate(jpegs)
    ]


def attribution(items: Sequence[Item], provenance: Mapping[str, Provenance]) -> str:
    """The note that names each artist with the licences and the models; `provenance` by label."""
    by_creator: dict[tuple[str, str, str], list[Item]] = defaultdict(list)
    for item in items:
        by_creator[item.creator, provenance[item.label].licence, item.library].append(item)
    free = sum(origin.licence == CC0 for origin in provenance.values())
    pages = "\n".join(f"- {name}: <{page}>" for name, page in LICENCE_PAGES.items())
    lines = [ATTRIBUTION_HEAD.format(free=free, bound=len(items) - free, pages=pages)]
    for (creator, licence, library), own in sorted(
        by_creator.items(), key=lambda pair: (pair[0][0].lower(), pair[0])
    ):
        lines += ["", f"## {creator}", "", f"Library {library}, licence {licence}.", ""]
        for item in sorted(own, key=lambda item: item.label):
            source = provenance[item.label].source
            lines.append(f"- {item.name} (`{item.label}`)" + (f" <{source}>" if source else ""))
    return "\n".join(lines) + "\n"
