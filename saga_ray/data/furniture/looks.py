"""What is asked of the renderer and what comes back, as plain data: no VTK is needed to use it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saga_ray.data.furniture.catalogue import Item

Pixels = npt.NDArray[np.uint8]
"""Height x width x channels, top row first."""


Colour = tuple[int, int, int]
"""RGB, 0..255."""


@dataclass(frozen=True)
class Backdrop:
    """What is behind the model: a wall, and a floor below `horizon` (share of the frame's height, from above;
    1: no floor to be seen).
    """

    wall: Colour = (236, 236, 236)
    floor: Colour = (236, 236, 236)
    horizon: float = 1.0


@dataclass(frozen=True)
class View:
    """How one picture is taken. Angles in degrees; `fill` is the share of the frame the model spans, `shift`
    its centre's distance from the frame's (shares of the frame, right and up); lights relative to the camera.
    """

    azimuth: float
    elevation: float
    fill: float = 0.92
    shift: tuple[float, float] = (0.0, 0.0)
    key_azimuth: float = -40.0
    key_elevation: float = 35.0
    key_strength: float = 0.6
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Colour of the light, as factors of red, green and blue."""
    backdrop: Backdrop = Backdrop()


@dataclass(frozen=True)
class Picture:
    """One view: `rgb_HW3` before its backdrop, `object_HW4` the model alone (RGB and coverage 0..255)."""

    rgb_HW3: Pixels
    object_HW4: Pixels


@dataclass(frozen=True)
class MaterialSeen:
    """One part's material: its share of the visible surface (0..1) and what it looks like."""

    share: float
    textured: bool
    opacity: float
    specular: float
    diffuse: tuple[float, float, float]


@dataclass(frozen=True)
class Repaint:
    """A picture of the model with its largest plain material in another colour."""

    colour: str
    view: int
    jpeg: bytes


@dataclass(frozen=True)
class Shots:
    """What one model gives. `look_VHW4`: small pictures of the model alone, from fixed views, without
    light.
    """

    item: Item
    jpegs: tuple[bytes, ...]
    colours_C: npt.NDArray[np.float64]
    materials: tuple[MaterialSeen, ...]
    look_VHW4: Pixels
    repaints: tuple[Repaint, ...]
    polygons: int
    missing: tuple[str, ...]
