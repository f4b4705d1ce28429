"""The sizes of an external tower (`saga_ray.models.towers.external` and `timm`). It may be any vision
transformer, so they are not read off the code of one but found on the model itself.

Its maps are those of the model built without memory. What its graph keeps is measured on copies with one and
with two layers, the difference being a layer's, and of two and of three pictures, the difference being a
picture's (one alone shares what timm's BEiT keeps of each picture's positions). No weights are read.

Legend: T all tokens of a picture, those before the patches' included, D token width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from saga_ray.models import towers
from saga_ray.models.towers import external, timm
from saga_ray.models.towers._vision_transformer import VisionTransformerTower
from saga_ray.plan.sizes import BFLOAT16, FLOAT32, Attention, Product, TowerSizes

OfDepth = Callable[[dict[str, Any], int], dict[str, Any]]
"""A configuration with another number of layers."""


def _sizes(name: str, of_depth: OfDepth, config: dict[str, Any]) -> TowerSizes:
    """The sizes of the tower that `saga_ray.models.towers.build` makes of a configuration."""
    with torch.device("meta"):
        tower = _built(name, config)
    rows, layers = tower.leading + tower.tokens_per_image, tower.layers
    copies = [_built(name, of_depth(config, count)) for count in (1, 2)]
    exact, rounded = (_kept_bytes(copies, layers, rounded) for rounded in (False, True))
    # What stays in float32 in bfloat16 is not told apart from what is rounded once more: both are more bytes.
    kept = exact // FLOAT32
    one, two = (_parameters(copy) for copy in copies)
    return TowerSizes(
        name=name,
        image_size=tower.image_size,
        tokens=tower.tokens_per_image,
        token_width=tower.token_width,
        pooled_width=tower.pooled_width,
        parameters=_parameters(tower),
        products=_products(tower, rows),
        attentions=(Attention(rows, rows, tower.token_width, layers),),
        kept=kept,
        kept_float32=0,
        kept_casts=rounded // BFLOAT16 - kept,
        layer=two - one,
        listed=layers * (two - one),
    )


EXTERNAL = {
    "external": partial(_sizes, "external", external.of_depth),
    "timm": partial(_sizes, "timm", timm.of_depth),
}
"""Of a tower's name and configuration."""


def _built(name: str, config: dict[str, Any]) -> VisionTransformerTower:
    """The tower with random weights."""
    tower = towers.build(name, config)
    assert isinstance(tower, VisionTransformerTower)
    return tower


def _parameters(tower: nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def _products(tower: VisionTransformerTower, rows: int) -> tuple[Product, ...]:
    """Its maps: the one that reads patches, and those of the layers, which read every token."""
    products = []
    for name, module in tower.visual.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = module.weight[0].numel()
            of_pixels = isinstance(module, nn.Conv2d) or "patch_embed" in name
            count = tower.tokens_per_image if of_pixels else rows
            products.append(Product(count, inputs, len(module.weight), of_pixels=of_pixels))
    return tuple(products)


def _kept_bytes(copies: list[VisionTransformerTower], layers: int, rounded: bool) -> int:
    """What autograd keeps of a picture in a tower of so many layers, from copies with one and with two."""
    one, two = (_kept_of(copy, 3, rounded) - _kept_of(copy, 2, rounded) for copy in copies)
    return one + (layers - 1) * (two - one)


def _kept_of(tower: VisionTransformerTower, images: int, rounded: bool) -> int:
    """Bytes that autograd keeps of so many pictures, each storage once, without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in tower.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    pictures = torch.zeros(images, tower.image_size, tower.image_size, 3, dtype=torch.uint8)
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=rounded),
    ):
        graph = tower(pictures)  # held, so that no storage is freed and given away again
    assert graph.requires_grad
    return sum(kept.values())
