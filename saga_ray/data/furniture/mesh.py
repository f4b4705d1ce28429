"""Meshes and materials: an OBJ file with its MTL file and textures, read straight from a library's zip.

Faces are kept as polygons, grouped by material, and cut into triangles later by VTK (many are concave, so a
fan would not do). Textures that an artist's file names by a path on the artist's own disk are looked up by
file name, whatever its case.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_TEXTURE = 512
"""Longest side of a texture in pixels: more cannot be seen in a small picture."""


@dataclass
class Material:
    """Colours in 0..1; `opacity` 1 is solid; `texture` is RGB or RGBA, top row first."""

    name: str
    diffuse: tuple[float, float, float] = (0.8, 0.8, 0.8)
    specular: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shininess: float = 1.0
    opacity: float = 1.0
    texture: Image.Image | None = None


@dataclass
class Part:
    """All polygons of one material. V points, F polygons, K corners in all.

    `points_V3`, `uv_V2` and `normals_V3` (None where the file gives none) share their rows; polygon f has
    the corners `corners_K[starts_F1[f] : starts_F1[f + 1]]`.
    """

    material: Material
    points_V3: Floats
    corners_K: Ints
    starts_F1: Ints
    uv_V2: Floats | None = None
    normals_V3: Floats | None = None


@dataclass
class Mesh:
    """A model's parts, in the file's order of materials, and the names of textures that are nowhere in the
    library.
    """

    parts: list[Part]
    missing: list[str] = field(default_factory=list)

    @property
    def points_V3(self) -> Floats:
        """The points of all parts."""
        return np.concatenate([part.points_V3 for part in self.parts])

    @property
    def polygons(self) -> int:
        """Number of polygons."""
        return sum(len(part.starts_F1) - 1 for part in self.parts)


def read_mesh(archive: zipfile.ZipFile, model: str, rotation: tuple[float, ...]) -> Mesh:
    """Read the OBJ file `model` of a library; points and normals are turned by `rotation` (row-major 3x3).

    Raises:
        ValueError: the file has no faces.
    """
    text = archive.read(model).decode("latin-1").replace("\\\n", " ")
    folder = posixpath.dirname(model)
    names = {name.lower(): name for name in archive.namelist()}
    materials: dict[str, Material] = {}
    missing: list[str] = []
    for line in text.splitlines():
        if line.startswith("mtllib "):
            file = names.get(posixpath.join(folder, line[7:].strip()).lower())
            if file is None:
                missing.append(line[7:].strip())
            else:
                materials |= read_materials(archive, file, names, missing)
    turn_33 = np.array(rotation).reshape(3, 3)
    return Mesh(_parts(text, materials, turn_33), missing)


def read_materials(
    archive: zipfile.ZipFile, file: str, names: dict[str, str], missing: list[str]
) -> dict[str, Material]:
    """Read an MTL file; `names` maps lower-case paths to the archive's, textures not found are appended to
    `missing`.
    """
    folder = posixpath.dirname(file)
    materials: dict[str, Material] = {}
    material = Material("")
    for line in archive.read(file).decode("latin-1").splitlines():
        key, _, value = line.strip().partition(" ")
        value = value.strip()
        if key == "newmtl":
            material = materials[value] = Material(value)
        elif key == "Kd":
            material.diffuse = _triple(value)
        elif key == "Ks":
            material.specular = _triple(value)
        elif key == "Ns":
            material.shininess = float(value)
        elif key == "d":
            material.opacity = float(value.split()[-1])
        elif key == "map_Kd":
            base = value.replace("\\", "/").split("/")[-1]
            found = names.get(posixpath.join(folder, value).lower()) or names.get(
                posixpath.join(folder, base).lower()
            )
            if found is None:
                missing.append(value)
            else:
                material.texture = _texture(archive.read(found))
    return materials


def _triple(value: str) -> tuple[float, float, float]:
    red, green, blue = (float(x) for x in value.split()[:3])
    return red, green, blue


def _texture(data: bytes) -> Image.Image:
    stored = Image.open(io.BytesIO(data))
    transparent = "A" in stored.getbands() or "transparency" in stored.info
    image = stored.convert("RGBA" if transparent else "RGB")
    image.thumbnail((MAX_TEXTURE, MAX_TEXTURE), Image.Resampling.LANCZOS)
    return image


def _parts(text: str, materials: dict[str, Material], turn_33: Floats) -> list[Part]:
    rows: dict[str, list[list[float]]] = {"v": [], "vt": [], "vn": []}
    faces: dict[str, list[list[str]]] = {}
    current = faces.setdefault("", [])
    for line in text.splitlines():
        key, _, rest = line.strip().partition(" ")
        if key == "f":
            corners = rest.split()
            if len(corners) > 2:
                current.append(corners)
        elif key in rows:
            values = [float(x) for x in rest.split()[: 2 if key == "vt" else 3]]
            rows[key].append(values)
        elif key == "usemtl":
            current = faces.setdefault(rest.strip(), [])
    points_V3 = np.array(rows["v"]).reshape(-1, 3) @ turn_33.T
    normals_V3 = np.array(rows["vn"]).reshape(-1, 3) @ turn_33.T
    uv_V2 = np.array(rows["vt"]).reshape(-1, 2)
    parts = [
        _part(materials.get(name) or Material(name), polygons, points_V3, uv_V2, normals_V3)
        for name, polygons in faces.items()
        if polygons
    ]
    if not parts:
        raise ValueError("no faces")
    return parts


def _part(
    material: Material, polygons: list[list[str]], points_V3: Floats, uv_V2: Floats, normals_V3: Floats
) -> Part:
    """Give every distinct (point, uv, normal) corner one row; an index that the file leaves out or breaks
    is -1.
    """
    cache: dict[str, tuple[int, int, int]] = {}

    def corner(text: str) -> tuple[int, int, int]:
        if text not in cache:
            v, t, n = (int(x) - 1 if x else -1 for x in (text.split("/") + ["", ""])[:3])
            if v < 0:
                raise ValueError("corners counted from the end are not supported")
            cache[text] = v, t if t < len(uv_V2) else -1, n if n < len(normals_V3) else -1
        return cache[text]

    corners_K3 = np.array([corner(text) for polygon in polygons for text in polygon], dtype=np.int64)
    starts_F1 = np.concatenate([[0], np.cumsum([len(polygon) for polygon in polygons])])
    rows_V3, corners_K = np.unique(corners_K3, axis=0, return_inverse=True)
    v, t, n = rows_V3.T
    return Part(
        material=material,
        points_V3=points_V3[v],
        corners_K=corners_K.reshape(-1),
        starts_F1=starts_F1,
        uv_V2=np.where(t[:, None] >= 0, uv_V2[t], 0.0) if (t >= 0).any() else None,
        normals_V3=normals_V3[n] if (n >= 0).all() else None,
    )
