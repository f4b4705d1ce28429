"""The attributes of a model: few values each, from the catalogue, the sizes and the visible materials."""

from __future__ import annotations

from collections.abc import Sequence

from saga_ray.data.furniture.catalogue import Item, slug
from saga_ray.data.furniture.colours import main_and_accent
from saga_ray.data.furniture.kinds import kind_and_use
from saga_ray.data.furniture.looks import MaterialSeen, Shots

CATEGORIES = {"Staircases": "doors and windows", "Characters": "miscellaneous"}
"""Rare categories and the one each is counted under."""

HEIGHTS = ((0.12, "flat"), (0.45, "low"), (0.9, "medium"), (1.6, "tall"), (float("inf"), "slender"))
FOOTPRINTS = ((0.45, "narrow"), (0.85, "deep"), (1.18, "square"), (2.2, "wide"), (float("inf"), "long"))
SIZES = ((12, "tiny"), (35, "small"), (90, "medium"), (180, "large"), (float("inf"), "huge"))


def attributes(shots: Shots) -> dict[str, str]:
    """The attribute columns of a model (`saga_ray.data.furniture.ATTRIBUTES`), and `size`."""
    item = shots.item
    kind, use = kind_and_use(slug(item.name).replace("-", " "))
    colour, accent = main_and_accent(shots.colours_C)
    return {
        "category": CATEGORIES.get(item.category, item.category.lower()),
        "kind": kind,
        "use": use,
        "colour": colour,
        "accent": accent,
        "height": _band(item.height / max(item.width, item.depth), HEIGHTS),
        "footprint": _band(item.width / item.depth, FOOTPRINTS),
        "surface": surface(shots.materials),
        "size": size(item),
    }


def size(item: Item) -> str:
    """Size class by the longest side: up to 12, 35, 90, 180 cm, and above."""
    return _band(max(item.width, item.depth, item.height), SIZES)


def surface(materials: Sequence[MaterialSeen]) -> str:
    """How the visible surface looks: `clear`, `patterned`, `part-patterned`, `glossy`, `plain` or
    `two-tone`.
    """
    clear = sum(m.share for m in materials if m.opacity < 0.9)
    patterned = sum(m.share for m in materials if m.textured)
    glossy = sum(m.share for m in materials if m.specular >= 0.45)
    if clear >= 0.2:
        return "clear"
    if patterned >= 0.6:
        return "patterned"
    if patterned >= 0.08:
        return "part-patterned"
    if glossy >= 0.6:
        return "glossy"
    return "plain" if max(m.share for m in materials) >= 0.85 else "two-tone"


def _band(value: float, bands: Sequence[tuple[float, str]]) -> str:
    return next(name for limit, name in bands if value <= limit)
