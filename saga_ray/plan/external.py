"""The sizes of an external tower (`saga_ray.models.towers.external` and `timm`). It may be any vision
transformer, so they are not read off the code of one but found on the model itself.

Its maps are those of the model built without memory. What its graph keeps is measured on copies with one and
with two layers, the difference being a layer's, and of two and of three pictures, the difference being a
picture's (one alone shares what timm's BEiT keeps of each picture's positions). No weights are read.

Legend: T all tokens of a picture, those before the patches' included, D token width.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor, nn

from saga_ray.models import adapters, towers
from saga_ray.models.towers import external, timm
from saga_ray.models.towers._vision_transformer import VisionTransformerTower
from saga_ray.plan.sizes import BFLOAT16, FLOAT32, Attention, Frozen, Product, TowerSizes

OF_DEPTH: dict[str, Callable[[dict[str, Any], int], dict[str, Any]]] = {
    "external": external.of_depth,
    "timm": timm.of_depth,
}
"""A configuration with another number of layers, by a tower's name."""


def external_sizes(name: str, config: dict[str, Any], *, lora: bool = False) -> TowerSizes:
    """The sizes of the tower that `saga_ray.models.towers.build` makes of a configuration. `lora`: also what
    it keeps beside adapters."""
    with torch.device("meta"):
        tower = _built(name, config)
    rows, layers = tower.leading + tower.tokens_per_image, tower.layers
    copies = [_built(name, OF_DEPTH[name](config, count)) for count in (1, 2)]
    exact, rounded = (_kept_bytes(copies, layers, rounded) for rounded in (False, True))
    # What stays in float32 in bfloat16 is not told apart from what is rounded once more: both are more bytes.
    kept = exact // FLOAT32
    one, two = (_parameters(copy) for copy in copies)
    products, frozen = _products(tower, rows), None
    if lora:
        for copy in copies:
            adapters.adapt(copy, rank=1, alpha=1, seed=0)
        products = _products(tower, rows, _untaught(copies[0]))
        frozen = _frozen(copies, layers, products)
    return TowerSizes(
        name=name,
        image_size=tower.image_size,
        tokens=tower.tokens_per_image,
        token_width=tower.token_width,
        pooled_width=tower.pooled_width,
        parameters=_parameters(tower),
        products=products,
        attentions=(Attention(rows, rows, tower.token_width, layers),),
        kept=kept,
        kept_float32=0,
        kept_casts=rounded // BFLOAT16 - kept,
        layer=two - one,
        listed=layers * (two - one),
        frozen=frozen,
    )


def _frozen(copies: list[VisionTransformerTower], layers: int, products: tuple[Product, ...]) -> Frozen:
    """What copies with adapters of rank 1 keep, less what those do."""
    exact, rounded = (_kept_bytes(copies, layers, rounded) for rounded in (False, True))
    own = sum(product.rows * (product.inputs + 1) for product in products if product.linear)
    kept = rounded // BFLOAT16 - own
    return Frozen(kept, kept + own - exact // FLOAT32, 0)


def _untaught(tower: VisionTransformerTower) -> set[str]:
    """Maps with adapters that read what no other adapter had a part in."""
    found: set[str] = set()
    for name, module in tower.visual.named_modules():
        if hasattr(module, "base_layer"):

            def look(_: nn.Module, read: tuple[Tensor, ...], name: str = name) -> None:
                if not read[0].requires_grad:
                    found.add(name)

            module.register_forward_pre_hook(look)
    tower(torch.zeros(1, tower.image_size, tower.image_size, 3, dtype=torch.uint8))
    return found


def _built(name: str, config: dict[str, Any]) -> VisionTransformerTower:
    """The tower with random weights."""
    tower = towers.build(name, config)
    assert isinstance(tower, VisionTransformerTower)
    return tower


def _parameters(tower: nn.Module) -> int:
    return sum(parameter.numel() for parameter in tower.parameters())


def _products(tower: VisionTransformerTower, rows: int, untaught: Container[str] = ()) -> tuple[Product, ...]:
    """Its maps: the one that reads patches, and those of the layers, which read every token. `untaught`: the
    names of those that nothing with an adapter stands before."""
    products = []
    for name, module in tower.visual.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            inputs = module.weight[0].numel()
            of_pixels = isinstance(module, nn.Conv2d) or "patch_embed" in name
            count = tower.tokens_per_image if of_pixels else rows
            linear, width = isinstance(module, nn.Linear), len(module.weight)
            products.append(Product(count, inputs, width, of_pixels, linear, first=name in untaught))
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
