"""The same thing in another colour: which material is repainted, and in which colours."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import numpy as np

from saga_ray.data.furniture.colours import COLOURS, PAINTS, name_pixels
from saga_ray.data.furniture.looks import MaterialSeen

LEAST_SHARE = 0.3
"""A repainted material takes at least this share of what is seen of the model."""
COLOURS_A_MODEL = 2
VIEWS_A_COLOUR = (1, 5)
"""Views in which repainted models are shown; references are taken from the others."""
SHADES = {
    "grey": ("white", "black"),
    "beige": ("white", "yellow"),
    "brown": ("orange", "red"),
    "pink": ("red", "purple"),
}
"""Paints too near to a colour that is no paint itself."""


def paintable(materials: Sequence[MaterialSeen]) -> list[int]:
    """The parts to repaint together: the untextured solid material seen most, and others of exactly its
    colour.

    Empty where no such material covers `LEAST_SHARE` of the model.
    """
    by_colour: dict[tuple[float, ...], list[int]] = {}
    for index, material in enumerate(materials):
        if not material.textured and material.opacity >= 0.9:
            by_colour.setdefault(tuple(round(x, 2) for x in material.diffuse), []).append(index)
    share = {key: sum(materials[i].share for i in own) for key, own in by_colour.items()}
    best = max(share, key=lambda key: (share[key], key), default=None)
    return by_colour[best] if best is not None and share[best] >= LEAST_SHARE else []


def choose_paints(path: str, shown: Sequence[float], main: str) -> list[str]:
    """The colours a model is repainted in: never the material's colour as shown (display RGB, 0..1), nor
    the model's main one.
    """
    own = COLOURS[int(name_pixels(np.array([shown], dtype=float))[0])]
    taken = {own, main, *SHADES.get(own, ())}
    left = [name for name in PAINTS if name not in taken]
    dice = random.Random(hashlib.sha256(f"paint:{path}".encode()).digest())
    return dice.sample(left, COLOURS_A_MODEL)
