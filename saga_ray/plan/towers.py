"""The towers' sizes from their configurations: products, attentions, parameters, and what a backward pass
has to keep.

What is kept was read off the models' code and is held to what autograd saves by a test: the input of each
linear map that trains, of each norm (in float32), of each activation; queries, keys, values and result of
fused attention. A value that is a view of the joint projection keeps all three.

Legend: R patches of a picture, D width of a tower, F width inside its perceptron, h heads, m patches along a
token's side, O width of a token.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from saga_ray.errors import UserError
from saga_ray.plan.external import OF_DEPTH, external_sizes
from saga_ray.plan.siglip import clip, gemma3, idefics3
from saga_ray.plan.sizes import Attention, Frozen, Product, TowerSizes, grid, led


def tower_sizes(name: str, config: dict[str, Any], *, lora: bool = False) -> TowerSizes:
    """Sizes of the tower that `saga_ray.models.towers.build` makes of these. `lora`: also what it keeps
    beside adapters, which has to be measured of an external one.

    Raises:
        UserError: sizes of this tower are not known.
    """
    if name in OF_DEPTH:
        return external_sizes(name, config, lora=lora)
    if name not in TOWERS:
        known = ", ".join(sorted({*TOWERS, *OF_DEPTH}))
        raise UserError(f"`saga plan` does not know the tower {name!r}; it knows {known}")
    return TOWERS[name](config)


def qwen3_vl(config: dict[str, Any]) -> TowerSizes:
    """Qwen3-VL: full attention, a perceptron of two maps, a merger for the last layer and each DeepStack one
    (`transformers`, Qwen3VLVisionModel)."""
    from transformers.models.qwen3_vl.configuration_qwen3_vl import Qwen3VLVisionConfig

    vision: Any = Qwen3VLVisionConfig.from_dict(config["vision"])
    width, hidden, layers = vision.hidden_size, vision.intermediate_size, vision.depth
    mergers = 1 + len(vision.deepstack_visual_indexes)
    side, rows = grid(config["image_size"], vision.patch_size, vision.spatial_merge_size)
    merged = width * vision.spatial_merge_size**2
    block = 4 * width + 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width
    merger = merged**2 + merged + merged * vision.out_hidden_size + vision.out_hidden_size
    pixels = _patch_inputs(vision)
    parameters = pixels * width + width + vision.num_position_embeddings * width + layers * block
    parameters += mergers * merger + 2 * width + 2 * merged * (mergers - 1)
    products = [Product(rows, pixels, width, of_pixels=True, linear=False)]
    layer = [
        Product(rows, width, 3 * width),
        Product(rows, width, width),
        Product(rows, width, hidden),
        Product(rows, hidden, width),
    ]
    products += led(layers * layer, 1)
    products += mergers * _merger(side**2, merged, vision.out_hidden_size)
    kept = pixels + layers * (9 * width + 2 * hidden) + mergers * 3 * width
    kept_float32 = layers * (2 * width + vision.num_heads + 4) + mergers * width
    listed_merger = merger + 2 * merged  # those of DeepStack, whose norms are wider, stand in a list
    return TowerSizes(
        "qwen3_vl",
        config["image_size"],
        side**2,
        vision.out_hidden_size * mergers,
        vision.out_hidden_size,
        parameters,
        tuple(products),
        (Attention(rows, rows, width, layers),),
        kept * rows,
        kept_float32 * rows,
        0,
        max(block, listed_merger) if mergers > 1 else block,
        layers * block + (mergers - 1) * listed_merger,
        Frozen(
            rows * (layers * (6 * width + hidden) + mergers * width), 0, rows * (kept_float32 - width - 2)
        ),
    )


def qwen2_5_vl(config: dict[str, Any]) -> TowerSizes:
    """Qwen2.5-VL: attention in windows but for a few layers, a gated perceptron, one merger (`transformers`,
    Qwen2_5_VisionTransformerPretrainedModel)."""
    from transformers.models.qwen2_5_vl.configuration_qwen2_5_vl import Qwen2_5_VLVisionConfig

    vision: Any = Qwen2_5_VLVisionConfig.from_dict(config["vision"])
    width, hidden, layers = vision.hidden_size, vision.intermediate_size, vision.depth
    side, rows = grid(config["image_size"], vision.patch_size, vision.spatial_merge_size)
    merge = vision.spatial_merge_size
    merged = width * merge**2
    block = 2 * width + 4 * width**2 + 4 * width + 3 * width * hidden + 2 * hidden + width
    maps = merged**2 + merged, (merged + 1) * vision.out_hidden_size  # the merger's, which stand in a list
    merger = width + sum(maps)
    pixels = _patch_inputs(vision)
    products = [Product(rows, pixels, width, of_pixels=True, linear=False)]
    layer = [
        Product(rows, width, 3 * width),
        Product(rows, width, width),
        Product(rows, width, hidden),
        Product(rows, width, hidden),
        Product(rows, hidden, width),
    ]
    products += led(layers * layer, 1)
    products += _merger(side**2, merged, vision.out_hidden_size)
    full = len(set(vision.fullatt_block_indexes) & set(range(layers)))
    window = vision.window_size // merge // vision.patch_size
    sides = [min(window, side - at) for at in range(0, side, window)]
    patches = [a * b * merge**2 for a in sides for b in sides]
    attentions = [Attention(rows, rows, width, full)]
    attentions += [Attention(count, count, width, layers - full) for count in patches]
    kept = pixels + layers * (11 * width + 4 * hidden) + 4 * width
    kept_float32 = layers * (2 * width + vision.num_heads + 2) + width
    return TowerSizes(
        "qwen2_5_vl",
        config["image_size"],
        side**2,
        vision.out_hidden_size,
        vision.out_hidden_size,
        pixels * width + layers * block + merger,
        tuple(products),
        tuple(attentions),
        kept * rows,
        kept_float32 * rows,
        layers * width * rows,
        max(block, *maps),
        layers * block + sum(maps),
        Frozen(
            rows * (layers * (6 * width + 3 * hidden) + width),
            rows * layers * width,
            rows * (kept_float32 - width - 1),
        ),
    )


def internvl(config: dict[str, Any]) -> TowerSizes:
    """InternViT with its class token, then pixel shuffle and projector, which are the tower's
    (`transformers`, InternVLVisionModel and InternVLMultiModalProjector; `saga_ray.models.towers.internvl`).

    Each layer scale keeps what it scaled. A layer norm keeps its input with mean and deviation, an RMS norm
    its input with the root and, to train its weight, the result before it. Positions are as many as the
    vision model's own pictures have patches; interpolating them is no product and keeps nothing.
    """
    from transformers.models.internvl.configuration_internvl import InternVLVisionConfig

    vision: Any = InternVLVisionConfig.from_dict(config["vision"])
    width, hidden, layers = vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers
    merge, out = config["merge"], config["width"]
    side, patches = grid(config["image_size"], vision.patch_size[0], merge)
    rows, merged = patches + 1, width * merge**2
    pixels = vision.num_channels * math.prod(vision.patch_size)
    rms, head_norms = vision.norm_type == "rms_norm", 2 * vision.use_qk_norm
    own = math.prod(a // b for a, b in zip(vision.image_size, vision.patch_size, strict=True))
    positions = (own + 1) * width if vision.use_absolute_position_embeddings else 0
    block = 4 * width**2 + width + 3 * width * vision.attention_bias + 2 * width * hidden + hidden + width
    block += 2 * width * (1 if rms else 2) + head_norms * width + 2 * width
    last = 0 if vision.use_mean_pooling else 1
    projector = 2 * merged + merged * out + out + out**2 + out
    products = [Product(patches, pixels, width, of_pixels=True, linear=False)]
    layer = 4 * [Product(rows, width, width)] + [Product(rows, width, hidden), Product(rows, hidden, width)]
    products += led(layers * layer, 3)
    products += [Product(side**2, merged, out), Product(side**2, out, out)]
    kept = rows * layers * ((8 + head_norms) * width + 2 * hidden)
    kept += patches * pixels + side**2 * (merged + 2 * out)
    norms = 2 * (2 * width + 1 if rms else width + 2) + head_norms * (width + 1)
    kept_float32 = rows * (layers * (norms + vision.num_attention_heads) + last * (width + 2))
    norm = width + (1 if rms else 2)
    frozen_norms = layers * (2 * norm + head_norms * (width + 1)) - norm
    frozen = Frozen(
        rows * layers * (4 * width + hidden) + side**2 * out,
        rows * layers * 3 * width,
        rows * (frozen_norms + layers * vision.num_attention_heads + last * (width + 2))
        + side**2 * (merged + 2),
    )
    return TowerSizes(
        "internvl",
        config["image_size"],
        side**2,
        out,
        out,
        pixels * width + 2 * width + positions + layers * block + last * 2 * width + projector,
        tuple(products),
        (Attention(rows, rows, width, layers),),
        kept,
        kept_float32 + side**2 * (merged + 2),
        2 * width * layers * rows,
        block,
        layers * block,
        frozen,
    )


def efficientnet_lite0(config: dict[str, Any]) -> TowerSizes:
    """EfficientNet-lite0 (`saga_ray.models.towers.efficientnet_lite0`): convolutions alone. Each keeps
    its input, and each clamp, though in place, what it clamped. Frozen ones between adapters do so too, but
    nothing is kept before the first adapter, which is at the first block's last convolution."""
    from saga_ray.models.towers.efficientnet_lite0 import STAGES, STEM_CHANNELS, TOKEN_WIDTH

    side = -(-config["image_size"] // 2)
    products = [Product(side**2, 27, STEM_CHANNELS, of_pixels=True, linear=False)]
    largest = 0
    kept, channels = 3 * config["image_size"] ** 2 + side**2 * STEM_CHANNELS, STEM_CHANNELS
    untaught = kept + 3 * side**2 * STEM_CHANNELS
    for stage in STAGES:
        for index in range(stage.blocks):
            wide = channels * stage.expansion
            before, first = len(products), len(products) == 1
            if stage.expansion > 1:
                products.append(Product(side**2, channels, wide))
                kept += side**2 * (channels + wide)
            kept += side**2 * wide
            side = -(-side // (stage.stride if index == 0 else 1))
            products += [
                Product(side**2, stage.kernel**2, wide, linear=False, first=first),
                Product(side**2, wide, stage.channels, first=first),
            ]
            kept += side**2 * 2 * wide
            channels = stage.channels
            largest = max(largest, sum(product.weights + product.outputs for product in products[before:]))
    products.append(Product(side**2, channels, TOKEN_WIDTH))
    kept += side**2 * (channels + TOKEN_WIDTH)
    parameters = sum(product.weights + product.outputs for product in products)
    return TowerSizes(
        "efficientnet_lite0",
        config["image_size"],
        side**2,
        TOKEN_WIDTH,
        TOKEN_WIDTH,
        parameters,
        tuple(products),
        (),
        kept,
        0,
        0,
        largest,
        parameters - sum(product.weights + product.outputs for product in (products[0], products[-1])),
        Frozen(kept - untaught, sum(p.rows * p.inputs for p in products if p.linear and not p.first), 0),
    )


TOWERS: dict[str, Callable[[dict[str, Any]], TowerSizes]] = {
    "qwen3_vl": qwen3_vl,
    "qwen2_5_vl": qwen2_5_vl,
    "internvl": internvl,
    "idefics3": idefics3,
    "gemma3": gemma3,
    "clip": clip,
    "efficientnet_lite0": efficientnet_lite0,
}


def _patch_inputs(vision: Any) -> int:
    return int(vision.in_channels * vision.temporal_patch_size * vision.patch_size**2)


def _merger(tokens: int, merged: int, out: int) -> list[Product]:
    return [Product(tokens, merged, merged), Product(tokens, merged, out)]
