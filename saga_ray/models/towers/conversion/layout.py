"""Where the patches' tokens stand among a vision model's, and which of its weights they need.

Which models can be towers is found out, not listed, on shallow copies with random weights. Without layers, a
vision transformer's token knows its own patch alone: changing one patch must change one token, and these must
be the last ones, row by row. With one layer, a weight without gradient takes no part in the patches' tokens.

Legend: B pictures, H height, W width, C channels, N patches, T all tokens, D token width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from saga_ray.models.towers._vision_transformer import VisionTransformerTower, leave_out

SIDE = 3
"""Patches along a side of the pictures that shallow copies look at."""
Shallow = Callable[[int, int], VisionTransformerTower]
"""A copy with so many layers, that takes so many tokens to stand before those of the patches."""


def layout(shallow: Shallow) -> tuple[int, list[str]]:
    """How many tokens stand before those of the patches, and the idle parts; fails for any other model than a
    vision transformer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        leading = _leading(shallow(0, 0))
        return leading, _idle(shallow(1, leading))


@torch.no_grad()
def _leading(tower: VisionTransformerTower) -> int:
    """Of a tower without layers: tokens before those of the patches."""
    count, side = tower.tokens_per_image, tower.image_size // SIDE
    pixels_BCHW = torch.randn(1, 3, tower.image_size, tower.image_size).repeat(1 + count, 1, 1, 1)
    for patch in range(count):
        top, left = (place * side for place in divmod(patch, SIDE))
        pixels_BCHW[1 + patch, :, top : top + side, left : left + side] = torch.randn(3, side, side)
    x_BTD = tower.all_tokens(pixels_BCHW)
    changed_NT = (x_BTD[1:] - x_BTD[0]).abs().amax(-1) > 1e-4
    leading = changed_NT.shape[1] - count
    assert leading >= 0, "fewer tokens than patches"
    assert not changed_NT[:, :leading].any() and torch.equal(changed_NT[:, leading:], torch.eye(count) > 0)
    return leading


def _idle(tower: VisionTransformerTower) -> list[str]:
    """Of a tower with one layer: what can be left out, by the names of its vision model's modules and
    parameters."""
    pixels_BCHW = torch.randn(1, 3, tower.image_size, tower.image_size)
    x_BND = tower.encode(pixels_BCHW)
    x_BND.square().sum().backward()  # type: ignore[no-untyped-call]
    parameters = dict(tower.visual.named_parameters())
    taking_part = {name for name, each in parameters.items() if each.grad is not None}
    idle: list[str] = []
    for name in parameters:
        if name in taking_part or any(name.startswith(f"{path}.") for path in idle):
            continue
        path = name
        while (owner := path.rpartition(".")[0]) and not any(
            each.startswith(f"{owner}.") for each in taking_part
        ):
            path = owner
        idle.append(path)
    leave_out(tower.visual, idle)
    assert torch.equal(tower.encode(pixels_BCHW), x_BND)
    return idle
