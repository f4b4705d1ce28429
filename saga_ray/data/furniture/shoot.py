"""Everything taken from one model: pictures, visible colours and materials, outlines for finding variants."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from saga_ray.data.furniture.catalogue import Item
from saga_ray.data.furniture.colours import PAINTS, bare_shade, colour_shares, main_and_accent
from saga_ray.data.furniture.looks import MaterialSeen, Pixels, Repaint, Shots, View
from saga_ray.data.furniture.mesh import read_mesh
from saga_ray.data.furniture.render import Studio
from saga_ray.data.furniture.repaint import VIEWS_A_COLOUR, choose_paints, paintable
from saga_ray.data.furniture.views import plan_views, seen_from

JPEG_QUALITY = 85
LOOK_SIDE = 28
PROBES = {
    "front": (View(-35, 20), View(0, 12), View(35, 25)),
    "above": (View(-35, 50), View(0, 65), View(145, 50)),
    "sides": (View(60, 20), View(115, 15), View(250, 25)),
    "around": (View(-35, 20), View(60, 25), View(190, 15)),
}
"""Fixed views for measuring colours and materials, by the side from which a model is seen."""


def encode_jpeg(rgb_HW3: Pixels, quality: int = JPEG_QUALITY) -> bytes:
    """JPEG bytes of a picture."""
    stream = io.BytesIO()
    Image.fromarray(rgb_HW3).save(stream, "JPEG", quality=quality, optimize=True)
    return stream.getvalue()


def shoot(item: Item, folder: Path) -> Shots:
    """Take all pictures and measurements of a model whose library lies in `folder`.

    Raises:
        ValueError: the model has no faces, or nothing of it can be seen.
    """
    studio, archive = _studio(), _archive(folder / f"{item.library}.sh3f")
    mesh = read_mesh(archive, item.model, item.rotation)
    studio.show(mesh, (item.width, item.height, item.depth))
    pictures = [studio.picture(view) for view in plan_views(item)]
    if min(float(picture.object_HW4[..., 3].mean()) for picture in pictures) < 1.0:
        raise ValueError("nothing to see")
    probes = PROBES[seen_from(item)]
    bare = [studio.picture(view, lit=False).object_HW4 for view in probes]
    materials = tuple(studio.materials_seen(probes))
    colours_C = colour_shares(np.concatenate([picture.reshape(-1, 4) for picture in bare]))
    return Shots(
        item=item,
        jpegs=tuple(encode_jpeg(picture.rgb_HW3) for picture in pictures),
        colours_C=colours_C,
        materials=materials,
        look_VHW4=np.stack([_small(picture) for picture in bare]),
        repaints=tuple(_repaints(studio, item, materials, main_and_accent(colours_C)[0])),
        polygons=mesh.polygons,
        missing=tuple(mesh.missing),
    )


def _repaints(
    studio: Studio, item: Item, materials: tuple[MaterialSeen, ...], main: str
) -> Iterator[Repaint]:
    parts = paintable(materials)
    if not parts:
        return
    views = plan_views(item)
    for colour in choose_paints(item.path, bare_shade(materials[parts[0]].diffuse), main):
        for part in parts:
            studio.repaint(part, PAINTS[colour])
        for view in VIEWS_A_COLOUR:
            yield Repaint(colour, view, encode_jpeg(studio.picture(views[view]).rgb_HW3))
    for part in parts:
        studio.repaint(part, None)


def _small(object_HW4: Pixels) -> Pixels:
    return np.asarray(Image.fromarray(object_HW4).resize((LOOK_SIDE, LOOK_SIDE), Image.Resampling.BOX))


@cache
def _studio() -> Studio:
    return Studio()


@cache
def _archive(path: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)
