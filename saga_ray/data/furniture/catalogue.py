"""The furniture catalogue: what the artists' libraries say about each 3D model.

The source is Debian's package `sweethome3d-furniture`: an `ar` archive holding a tar of `.sh3f` files; each
of them is a zip with OBJ meshes, MTL materials, textures and one `PluginFurnitureCatalog.properties`, a
Java properties file (Latin-1, with `\\uXXXX` escapes) whose keys end in `#number`, one number a model.
Lengths are centimetres.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from saga_ray.errors import UserError

CATALOGUE_FILE = "PluginFurnitureCatalog.properties"

LIBRARIES = ("BlendSwap-CC-0", "BlendSwap-CC-BY", "KatorLegaz", "Scopia")
"""The libraries that are used. `Reallusion` is left out: it holds 25 people, not furniture."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Item:
    """One model of the catalogue. Lengths in centimetres; `rotation`: row-major 3x3 matrix for its points."""

    label: str
    library: str
    identity: str
    name: str
    category: str
    tags: tuple[str, ...]
    width: float
    depth: float
    height: float
    elevation: float
    movable: bool
    door_or_window: bool
    creator: str
    model: str
    rotation: tuple[float, ...] = IDENTITY

    @property
    def path(self) -> str:
        """The model's path, unique over all libraries: what splits are hashed from."""
        return f"{self.library}/{self.model}"


def parse_properties(data: bytes) -> dict[str, str]:
    """Read a Java properties file: Latin-1, `#` and `!` comments, `key=value`, escapes, continued lines."""
    text = re.sub(r"\\\r?\n[ \t]*", "", data.decode("latin-1"))
    pairs: dict[str, str] = {}
    for line in text.splitlines():
        line = line.strip()
        if line and line[0] not in "#!" and "=" in line:
            key, value = line.split("=", 1)
            pairs[key.strip()] = _unescape(value.strip())
    return pairs


def _unescape(value: str) -> str:
    named = {"t": "\t", "n": "\n", "r": "\r", "f": "\f"}

    def character(match: re.Match[str]) -> str:
        code, char = match.groups()
        return chr(int(code, 16)) if code else named.get(char, char)

    return re.sub(r"\\(?:u([0-9a-fA-F]{4})|(.))", character, value)


def slug(text: str) -> str:
    """Lower-case words joined by `-`; `camelCase` and digits after letters stay readable."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", text)
    return re.sub(r"[^a-z0-9]+", "-", spaced.lower()).strip("-")


def parse_catalogue(data: bytes, library: str) -> list[Item]:
    """Turn one library's properties file into items, in the file's order; labels are not yet made unique."""
    models: dict[int, dict[str, str]] = defaultdict(dict)
    for key, value in parse_properties(data).items():
        stem, mark, number = key.partition("#")
        if mark:
            models[int(number)][stem] = value
    return [_item(fields, library) for _, fields in sorted(models.items())]


def _item(fields: dict[str, str], library: str) -> Item:
    rotation = (
        tuple(float(x) for x in fields["modelRotation"].split()) if "modelRotation" in fields else IDENTITY
    )
    return Item(
        label=slug(fields["name"]),
        library=library,
        identity=slug(fields["id"].split("#")[-1]),
        name=fields["name"],
        category=fields["category"],
        tags=tuple(tag.strip() for tag in fields["tags"].split(",") if tag.strip()),
        width=float(fields["width"]),
        depth=float(fields["depth"]),
        height=float(fields["height"]),
        elevation=float(fields.get("elevation", 0)),
        movable=fields["movable"] == "true",
        door_or_window=fields["doorOrWindow"] == "true",
        creator=fields["creator"],
        model=fields["model"].lstrip("/"),
        rotation=rotation,
    )


def read_catalogues(folder: Path) -> list[Item]:
    """All items of the used libraries in `folder` (holding `<library>.sh3f`), sorted by path, with unique
    labels.
    """
    items: list[Item] = []
    for library in LIBRARIES:
        with zipfile.ZipFile(folder / f"{library}.sh3f") as archive:
            items += parse_catalogue(archive.read(CATALOGUE_FILE), library)
    return sorted(unique_labels(items), key=lambda item: item.path)


def unique_labels(items: list[Item]) -> list[Item]:
    """Keep a name that one model alone bears; else add the model's own identity, and its library where that
    is shared too.
    """
    for suffix in ("identity", "library"):
        count = Counter(item.label for item in items)
        items = [
            replace(item, label=_join(item.label, slug(getattr(item, suffix))))
            if count[item.label] > 1
            else item
            for item in items
        ]
    assert len({item.label for item in items}) == len(items), "two models share a label within one library"
    return items


def _join(label: str, suffix: str) -> str:
    said = re.sub(r"\d+", "", suffix).split("-")
    return suffix if set(label.split("-")) <= set(said) else f"{label}-{suffix}"


def unpack(package: Path, folder: Path) -> None:
    """Unpack the `.sh3f` libraries of the Debian package into `folder`, without `dpkg`.

    Raises:
        UserError: the file is not the expected Debian package.
    """
    found = set()
    for name, data in _ar_members(package):
        if name.startswith("data.tar"):
            with tarfile.open(fileobj=io.BytesIO(data)) as archive:
                for member in archive:
                    stream = archive.extractfile(member) if member.name.endswith(".sh3f") else None
                    if stream is not None:
                        (folder / Path(member.name).name).write_bytes(stream.read())
                        found.add(Path(member.name).stem)
    missing = sorted(set(LIBRARIES) - found)
    if missing:
        raise UserError(
            f"{package} holds no library {', '.join(missing)}: pass sweethome3d-furniture_1.8-1_all.deb."
        )


def _ar_members(path: Path) -> Iterator[tuple[str, bytes]]:
    with path.open("rb") as stream:
        if stream.read(8) != b"!<arch>\n":
            raise UserError(f"{path} is not a Debian package: pass sweethome3d-furniture_1.8-1_all.deb.")
        while header := stream.read(60):
            size = int(header[48:58])
            yield header[:16].decode().strip().rstrip("/"), stream.read(size)
            stream.read(size % 2)
