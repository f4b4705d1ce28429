"""Names for colours: few, told apart by lightness, chroma and hue in CIE Lab (D65). Pink counts as red."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

COLOURS = (
    "black", "grey", "white", "beige", "brown", "red", "orange", "yellow", "green", "blue", "purple",
)  # fmt: skip

PAINTS: dict[str, tuple[float, float, float]] = {
    "red": (0.72, 0.06, 0.06),
    "orange": (0.95, 0.45, 0.05),
    "yellow": (0.93, 0.80, 0.10),
    "green": (0.10, 0.48, 0.14),
    "blue": (0.08, 0.22, 0.70),
    "purple": (0.42, 0.12, 0.58),
    "white": (0.95, 0.95, 0.95),
    "black": (0.04, 0.04, 0.04),
}
"""The colours things are repainted in: display RGB, 0..1."""


TONE = 0.78
"""Exponent of the tone curve: artists' materials are darker than the things, and white must not burn out."""
BARE = 0.85
"""Share of a material's colour that is shown without light and shade, before the tone curve."""


def bare_shade(colour: Sequence[float]) -> list[float]:
    """What a plain material's colour is shown as without light and shade (both 0..1 RGB)."""
    return [(BARE * min(1.0, max(0.0, x))) ** TONE for x in colour]


def rgb_to_lab(rgb_P3: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """sRGB in 0..1 to CIE Lab under D65; P pixels."""
    linear_P3 = np.where(rgb_P3 <= 0.04045, rgb_P3 / 12.92, ((rgb_P3 + 0.055) / 1.055) ** 2.4)
    to_xyz_33 = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz_P3 = linear_P3 @ to_xyz_33.T / np.array([0.9505, 1.0, 1.089])
    f_P3 = np.where(xyz_P3 > 216 / 24389, np.cbrt(xyz_P3), (24389 / 27 * xyz_P3 + 16) / 116)
    x, y, z = f_P3.T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def name_pixels(rgb_P3: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Index into `COLOURS` of each pixel's colour (sRGB in 0..1)."""
    light, a, b = rgb_to_lab(rgb_P3).T
    chroma, hue = np.hypot(a, b), np.degrees(np.arctan2(b, a)) % 360
    warm = (hue >= 38) & (hue < 108)
    reddish = (hue < 38) | (hue >= 345) | ((hue < 47) & (chroma > 42))
    rules = [
        ("black", (light < 17) | ((light < 34) & (chroma < 12))),
        ("white", (chroma < 7) & (light > 74)),
        ("grey", (chroma < 8) | ((chroma < 12) & ~warm)),
        ("red", reddish & (chroma > 25) & (light < 60)),
        ("beige", warm & (light >= 62) & (chroma < 42)),
        ("brown", warm & (light < 62) & (chroma < 42) & (hue < 100)),
        ("brown", warm & (light < 50) & (chroma < 62) & (hue < 92)),
        ("brown", (warm | reddish) & (light < 40)),
        ("red", reddish),
        ("orange", warm & (hue < 70)),
        ("yellow", warm),
        ("green", (hue >= 108) & (hue < 192)),
        ("blue", (hue >= 192) & (hue < 310)),
        ("purple", hue >= 310),
    ]
    return np.select(
        [rule for _, rule in rules], [COLOURS.index(name) for name, _ in rules], default=COLOURS.index("grey")
    ).astype(np.int64)


def colour_shares(object_P4: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Share of each of `COLOURS` among pixels with coverage (RGBA bytes), weighted by coverage."""
    weight_P = object_P4[:, 3] / 255.0
    names_P = name_pixels(object_P4[:, :3] / 255.0)
    shares = np.bincount(names_P, weights=weight_P, minlength=len(COLOURS))
    return np.asarray(shares / max(1e-9, float(shares.sum())))


def main_and_accent(shares: npt.NDArray[np.float64], least: float = 0.08) -> tuple[str, str]:
    """The largest colour and the second largest; `none` where the second covers less than `least` of the
    model.
    """
    first, second = np.argsort(-shares, kind="stable")[:2]
    return COLOURS[first], COLOURS[second] if shares[second] >= least else "none"
