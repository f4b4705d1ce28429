"""What is asked of the renderer and what comes back, as plain data: no VTK is needed to use it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saga_ray.data.furniture.catalogue import Item

Pixels = npt.NDArray[np.uint8]
"""Height x width x channels, top row first."""


@dataclass(frozen=True)
class View:
    """How one picture is taken. Angles in degrees; `fill` is the share of the frame the model spans; lights
    relative to the camera.
    """

    azimuth: float
    elevation: float
    fill: float = 0.92
    key_azimuth: float = -40.0
    key_elevation: float = 35.0
    key_strength: float = 0.6
    background: int = 236


@dataclass(frozen=True)
class Picture:
    """One view: `rgb_HW3` on its background, `object_HW4` the model alone (RGB and coverage 0..255)."""

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
