"""Which pictures are taken of a model: angles, zoom and light, chosen so that every view shows what the
model is.

A door from behind looks like another door, and a picture edge-on like nothing: flat and wall-bound things
are seen from the front only, mats and plates from well above, thin things (a bicycle) from either side, all
others from all around.
"""

from __future__ import annotations

import hashlib
import random

from saga_ray.data.furniture.catalogue import Item, slug
from saga_ray.data.furniture.looks import View

VIEWS = 8
FRONT_REACH = 62.0
"""Degrees to either side of the front from which wall-bound things are seen."""
BACKGROUNDS = (250, 240, 228, 216, 204)

ASPHALT = (150, 138, 126)
"""Backgrounds of white marks on roads."""

FRONT_CATEGORIES = {"Doors and windows"}
FRONT_WORDS = {
    "amplifier", "bedside", "bidet", "blind", "board", "bookcase", "cabinet", "calendar", "chest",
    "clock", "conditioning", "cooker", "cupboard", "curtain", "dart", "drawers", "dresser", "dryer",
    "escalator", "extinguisher", "fireplace", "frame", "freezer", "fridge", "furnace", "hanger",
    "heater", "hood", "intercom", "lavatory", "locker", "microwave", "net", "oven", "piano", "radiator",
    "refrigerator", "safe", "screen", "shelves", "sink", "speaker", "stereo", "stove", "toilets", "tv",
    "urinal", "vanity", "wall", "wardrobe", "washing",
}  # fmt: skip
"""Words in the names of things that stand or hang against a wall."""


def seen_from(item: Item) -> str:
    """`above` (lies flat), `front` (against a wall), `sides` (thin from the front) or `around`."""
    width, height, depth = item.width, item.height, item.depth
    words = set(slug(item.name).split("-"))
    if height < 0.14 * min(width, depth):
        return "above"
    on_wall = (
        item.category in FRONT_CATEGORIES or item.door_or_window or (item.elevation > 0 and not item.movable)
    )
    if on_wall or depth < 0.3 * min(width, height) or words & FRONT_WORDS:
        return "front"
    return "sides" if width < 0.3 * min(depth, height) else "around"


def plan_views(item: Item) -> list[View]:
    """The model's views, neighbouring angles apart; the same for the same path on every machine."""
    dice = random.Random(hashlib.sha256(item.path.encode()).digest())
    origin = seen_from(item)
    reach = FRONT_REACH if origin == "front" else 55.0
    views = []
    for index in range(VIEWS):
        share = (index + 0.5 + dice.uniform(-0.35, 0.35)) / VIEWS
        if origin == "front":
            azimuth = (2 * share - 1) * reach
        elif origin == "sides":
            half, inner = divmod(2 * share, 1)
            azimuth = 90 + 180 * half + (2 * inner - 1) * reach
        else:
            azimuth = 360 * share
        low, high = {"above": (38, 75), "front": (6, 34)}.get(origin, (12, 38))
        views.append(
            View(
                azimuth=round(azimuth % 360, 1),
                elevation=round(dice.uniform(low, high), 1),
                fill=round(dice.uniform(0.8, 0.97), 3),
                key_azimuth=round(dice.uniform(-60, 60), 1),
                key_elevation=round(dice.uniform(15, 55), 1),
                key_strength=round(dice.uniform(0.4, 0.65), 2),
                background=dice.choice(ASPHALT if "Road" in item.tags and origin == "above" else BACKGROUNDS),
            )
        )
    return [views[(3 * index) % VIEWS] for index in range(VIEWS)]
