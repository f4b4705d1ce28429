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
from saga_ray.data.furniture.looks import Backdrop, Colour, View

VIEWS = 8
FILL = (0.6, 0.95)
"""Least and greatest share of the frame that a model spans."""
FRONT_REACH = 62.0
"""Degrees to either side of the front from which wall-bound things are seen."""
ROOMS: tuple[tuple[Colour, Colour], ...] = (
    ((250, 250, 250), (238, 238, 238)),
    ((214, 214, 214), (188, 188, 188)),
    ((228, 216, 198), (170, 130, 94)),
    ((198, 212, 224), (152, 152, 150)),
    ((196, 206, 186), (192, 172, 142)),
    ((206, 154, 130), (124, 94, 78)),
    ((232, 206, 206), (206, 190, 178)),
    ((236, 222, 160), (140, 110, 84)),
    ((134, 136, 102), (94, 88, 74)),
    ((72, 84, 112), (130, 114, 98)),
    ((88, 90, 96), (64, 64, 66)),
)
"""Colours of wall and floor."""
ASPHALT: tuple[Colour, ...] = ((150, 150, 150), (138, 136, 132), (126, 126, 128))
"""Grounds of white marks on roads."""
WARM, COLD = (1.0, 0.93, 0.82), (0.88, 0.95, 1.0)
"""Light of lamps and of the sky, as factors of red, green and blue."""

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
    """The model's views, neighbouring angles apart; the same for the same path on every machine. As in
    pictures from many shops, framing, room and light say nothing about the model.
    """
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
        fill = dice.uniform(*FILL)
        room = (1 - fill) / 2
        views.append(
            View(
                azimuth=round(azimuth % 360, 1),
                elevation=round(dice.uniform(low, high), 1),
                fill=round(fill, 3),
                shift=(round(dice.uniform(-room, room), 3), round(dice.uniform(-room, room), 3)),
                key_azimuth=round(dice.uniform(-75, 75), 1),
                key_elevation=round(dice.uniform(5, 65), 1),
                key_strength=round(dice.uniform(0.35, 0.7), 2),
                tint=_light(dice.uniform(-1, 1)),
                backdrop=_backdrop(item, origin, dice),
            )
        )
    return [views[(3 * index) % VIEWS] for index in range(VIEWS)]


def _light(warmth: float) -> tuple[float, float, float]:
    """The tint between the sky's (-1), none (0) and a lamp's (1)."""
    far = WARM if warmth > 0 else COLD
    red, green, blue = (round(1 + abs(warmth) * (factor - 1), 3) for factor in far)
    return red, green, blue


def _backdrop(item: Item, origin: str, dice: random.Random) -> Backdrop:
    """A room, or, for what is seen from above, its floor alone."""
    wall, floor = dice.choice(ROOMS)
    horizon = dice.uniform(0.45, 0.9)
    if origin == "above":
        return Backdrop(wall=dice.choice(ASPHALT) if "Road" in item.tags else floor)
    return Backdrop(wall, floor, round(horizon, 3))
