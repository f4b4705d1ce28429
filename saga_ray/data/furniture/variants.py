"""Which models are variants of one another: recoloured, mirrored, resized, or the same thing with a small
part changed.

Variants must not be divided between training and test pictures. Three signs, each enough: the same mesh (as
many polygons, nearly the same proportions), two things of one kind and one library that look nearly the
same, or one series by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from saga_ray.data.furniture.catalogue import slug
from saga_ray.data.furniture.kinds import kind_and_use
from saga_ray.data.furniture.looks import Shots

SAME_PROPORTIONS = 0.06
"""Largest difference in log proportions of two copies of one mesh."""
SAME_OUTLINE = 0.95
"""Least overlap (intersection over union) of two outlines that are called the same."""
SAME_OUTLINE_ELSEWHERE = 0.98
"""The same for two models of different libraries."""
SAME_SHADE = 0.09
"""Largest mean difference of grey (0..1, each less its mean) of two recoloured copies."""
TELLING_POLYGONS = 40
"""From so many polygons on, an equal count is no accident even between different kinds."""
SERIES = (
    "arrow",
    "beige sofa",
    "bill",
    "cardboard box",
    "coconut tree",
    "concept sedan",
    "convertible sofa",
    "double hung window",
    "football goal",
    "hedge",
    "induction cooker",
    "intercom",
    "iron railing",
    "little lamp",
    "medicine bottle",
    "parking slot",
    "pedestrian railing",
    "step ladder",
    "swimming pool",
    "water heater",
)
"""Words in the names of things that a library holds in several sizes or states."""


def variant_groups(shots: Sequence[Shots]) -> list[int]:
    """The group number of each model; a group's number is the index of its first model."""
    parent = list(range(len(shots)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in variant_pairs(shots):
        low, high = sorted((root(i), root(j)))
        parent[high] = low
    return [root(i) for i in range(len(shots))]


def variant_pairs(shots: Sequence[Shots]) -> list[tuple[int, int]]:
    """All pairs i < j of models that are variants of one another."""
    overlap, shade = outline_overlap(shots), shade_difference(shots)
    kinds = [(kind_and_use(slug(s.item.name).replace("-", " "))[0]) for s in shots]
    pairs = []
    for i, a in enumerate(shots):
        for j in range(i + 1, len(shots)):
            b = shots[j]
            same_kind = kinds[i] == kinds[j]
            same_library = a.item.library == b.item.library
            alike = _proportions_differ(a, b) < SAME_PROPORTIONS
            same_mesh = alike and a.polygons == b.polygons and (same_kind or a.polygons >= TELLING_POLYGONS)
            outline = SAME_OUTLINE if same_library else SAME_OUTLINE_ELSEWHERE
            same_look = same_kind and overlap[i, j] >= outline and shade[i, j] <= SAME_SHADE
            same_series = same_library and ((alike and _stem(a) == _stem(b)) or bool(_series(a) & _series(b)))
            if same_mesh or same_look or same_series:
                pairs.append((i, j))
    return pairs


def outline_overlap(shots: Sequence[Shots]) -> npt.NDArray[np.float64]:
    """Mean overlap of the outlines from the fixed views, or with one mirrored if that is larger; N x N."""
    covers_NVHW = np.stack([s.look_VHW4[..., 3] for s in shots]) / 255.0
    return np.maximum(_overlap(covers_NVHW, covers_NVHW), _overlap(covers_NVHW, _mirrored(covers_NVHW)))


def _overlap(a_NVHW: npt.NDArray[np.float64], b_NVHW: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    count, views = a_NVHW.shape[:2]
    total = np.zeros((count, count))
    for v in range(views):
        a_NP, b_NP = a_NVHW[:, v].reshape(count, -1), b_NVHW[:, v].reshape(count, -1)
        # Soft intersection over union: products stand for the intersection, squares for the areas.
        both = a_NP @ b_NP.T
        total += both / np.maximum((a_NP**2).sum(1)[:, None] + (b_NP**2).sum(1)[None] - both, 1e-9)
    return np.asarray(total / views)


def shade_difference(shots: Sequence[Shots]) -> npt.NDArray[np.float64]:
    """Mean absolute difference of the models' grey pictures, each less its mean, or of one mirrored if
    smaller; N x N.
    """
    looks_NVHW4 = np.stack([s.look_VHW4 for s in shots]) / 255.0
    cover_NVHW = looks_NVHW4[..., 3]
    grey_NVHW = looks_NVHW4[..., :3].mean(-1)
    mean_N = (grey_NVHW * cover_NVHW).sum((1, 2, 3)) / cover_NVHW.sum((1, 2, 3))
    grey_NVHW = (grey_NVHW - mean_N[:, None, None, None]) * cover_NVHW
    mirrored_NVHW = _mirrored(grey_NVHW)
    area_N = cover_NVHW.sum((1, 2, 3))
    difference = np.zeros((len(shots), len(shots)))
    for i in range(len(shots)):
        direct = np.abs(grey_NVHW - grey_NVHW[i]).sum((1, 2, 3))
        turned = np.abs(mirrored_NVHW - grey_NVHW[i]).sum((1, 2, 3))
        difference[i] = np.minimum(direct, turned) / np.maximum(area_N, area_N[i])
    return difference


def _mirrored(x_NVHW: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.flip(x_NVHW, axis=-1)


def _proportions_differ(a: Shots, b: Shots) -> float:
    sides_a = np.log([a.item.width, a.item.depth, a.item.height])
    sides_b = np.log([b.item.width, b.item.depth, b.item.height])
    return float(np.ptp(sides_a - sides_b))


def _stem(shots: Shots) -> str:
    return re.sub(r"\d+", "", shots.item.name)


def _series(shots: Shots) -> set[str]:
    words = f"-{slug(shots.item.name)}-"
    return {series for series in SERIES if f"-{slug(series)}-" in words}
