"""The sizes of towers made of CLIP's and SigLIP's layers: see `saga_ray.plan.towers`, whose list has them.

Legend: R patches of a picture with the class token, if any, D width of the vision model, F width inside its
perceptron.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from saga_ray.plan.sizes import Attention, Frozen, Product, TowerSizes, grid, led


@dataclass(frozen=True)
class Layers:
    """Layers of attention with four maps and a perceptron with two, all with biases, each after a norm."""

    count: int
    width: int
    """D."""
    hidden: int
    """F."""
    heads: int
    inside: int = 2
    """How often the perceptron keeps its F numbers: what the activation reads, and what it makes."""

    @property
    def parameters(self) -> int:
        """All numbers."""
        width, hidden = self.width, self.hidden
        maps = 4 * width**2 + 4 * width + 2 * width * hidden + hidden + width
        return self.count * (maps + 4 * width)

    def products(self, rows: int) -> list[Product]:
        """Of a picture of R rows."""
        width, hidden = self.width, self.hidden
        attention = 4 * [Product(rows, width, width)]
        layer = [*attention, Product(rows, width, hidden), Product(rows, hidden, width)]
        return led(self.count * layer, 3)

    def attention(self, rows: int) -> Attention:
        """Every patch looks at all."""
        return Attention(rows, rows, self.width, self.count)

    @property
    def kept(self) -> int:
        """Numbers a row: what the maps read, queries, keys, values, and the perceptron's."""
        return self.count * (6 * self.width + self.inside * self.hidden)

    @property
    def kept_float32(self) -> int:
        """What the norms read with mean and deviation, and the scores' sums."""
        return self.count * (2 * self.width + self.heads + 4)

    @property
    def kept_casts(self) -> int:
        """Queries, keys and values each round what they read."""
        return self.count * 2 * self.width

    def frozen(self, rows: int, around: int = 0) -> Frozen:
        """With adapters, of R rows: queries, keys, values and result of attention, and what the activation
        reads. Queries, keys and values read one norm's result, and the result of attention is kept by it too;
        the first norm has nothing to learn. `around`: numbers a row that norms behind the layers keep."""
        kept = self.count * (4 * self.width + (self.inside - 1) * self.hidden)
        return Frozen(
            rows * kept,
            rows * self.count * 3 * self.width,
            rows * (self.kept_float32 - self.width - 2 + around),
        )


def clip(config: dict[str, Any]) -> TowerSizes:
    """CLIP and SigLIP (`saga_ray.models.towers.clip`)."""
    width, is_clip = config["width"], config["kind"] == "clip"
    # quick_gelu is two operations, and each keeps what it read
    inside = 3 if config["activation"] == "quick_gelu" else 2
    layers = Layers(config["layers"], width, config["hidden"], config["heads"], inside)
    tokens = (config["image_size"] // config["patch_size"]) ** 2
    rows, pixels = tokens + is_clip, 3 * config["patch_size"] ** 2
    start = pixels * width + rows * width + (3 * width if is_clip else width)
    return TowerSizes(
        "clip",
        config["image_size"],
        tokens,
        width,
        width,
        start + layers.parameters,
        (Product(tokens, pixels, width, of_pixels=True, linear=False), *layers.products(rows)),
        (layers.attention(rows),),
        rows * layers.kept + tokens * pixels,
        rows * (layers.kept_float32 + is_clip * width),
        rows * layers.kept_casts,
        layers.parameters // layers.count,
        layers.parameters,
        layers.frozen(rows),
    )


def idefics3(config: dict[str, Any]) -> TowerSizes:
    """SigLIP with its last norm, then pixel shuffle and one linear map (`transformers`,
    Idefics3VisionTransformer and Idefics3Connector; `saga_ray.models.towers.idefics3`).

    Positions are looked up, which keeps their places, 8 bytes each; there are as many as the vision model's
    own pictures have patches.
    """
    from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig

    kind = {"model_type": Idefics3VisionConfig.model_type}  # SmolVLM's is of the same architecture
    vision: Any = Idefics3VisionConfig.from_dict(config["vision"] | kind)
    width, out = vision.hidden_size, config["width"]
    layers = Layers(vision.num_hidden_layers, width, vision.intermediate_size, vision.num_attention_heads)
    side, rows = grid(config["image_size"], vision.patch_size, config["merge"])
    pixels, merged = vision.num_channels * vision.patch_size**2, width * config["merge"] ** 2
    own = (vision.image_size // vision.patch_size) ** 2
    around = pixels * width + width + own * width + 2 * width + merged * out
    projection = Product(side**2, merged, out)
    return TowerSizes(
        "idefics3",
        config["image_size"],
        side**2,
        out,
        out,
        around + layers.parameters,
        (Product(rows, pixels, width, of_pixels=True, linear=False), *layers.products(rows), projection),
        (layers.attention(rows),),
        rows * (pixels + layers.kept + width),
        rows * (layers.kept_float32 + width + 2 + 2),
        rows * layers.kept_casts,
        layers.parameters // layers.count,
        layers.parameters,
        layers.frozen(rows, width + 2),
    )


def gemma3(config: dict[str, Any]) -> TowerSizes:
    """SigLIP with its last norm and without its head, then the mean of a token's patches, an RMS norm and one
    linear map (`transformers`, SiglipVisionModel and Gemma3MultiModalProjector;
    `saga_ray.models.towers.gemma3`).

    There are as many positions as the vision model's own pictures have patches; interpolating them is no
    product and keeps nothing. The mean keeps what it read, and the RMS norm its input with the root and, to
    train its weight, the result before it.
    """
    from transformers import SiglipVisionConfig

    vision: Any = SiglipVisionConfig.from_dict(config["vision"])
    width, out = vision.hidden_size, config["width"]
    layers = Layers(vision.num_hidden_layers, width, vision.intermediate_size, vision.num_attention_heads)
    side, rows = grid(config["image_size"], vision.patch_size, config["merge"])
    pixels, own = vision.num_channels * vision.patch_size**2, (vision.image_size // vision.patch_size) ** 2
    around = pixels * width + width + own * width + 2 * width + width + width * out
    frozen = layers.frozen(rows, 2 * width + 2)
    projection = Product(side**2, width, out, linear=False)
    return TowerSizes(
        "gemma3",
        config["image_size"],
        side**2,
        out,
        out,
        around + layers.parameters,
        (Product(rows, pixels, width, of_pixels=True, linear=False), *layers.products(rows), projection),
        (layers.attention(rows),),
        rows * (pixels + layers.kept) + side**2 * width,
        rows * (layers.kept_float32 + 2 * width + 2) + side**2 * (2 * width + 1),
        rows * layers.kept_casts,
        layers.parameters // layers.count,
        layers.parameters,
        replace(frozen, kept_float32=frozen.kept_float32 + side**2 * (width + 1)),
    )
