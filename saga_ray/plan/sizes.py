"""What a tower and a language model are made of, as numbers: everything that is counted follows from these.

Legend: N patch tokens of an image, D their width, H width of the language model, F width inside its
perceptron, h query heads, k key heads, d width of a head, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from saga_ray.errors import UserError

FLOAT32, BFLOAT16 = 4, 2
"""Bytes of a number."""
BYTES = {"float32": FLOAT32, "bfloat16": BFLOAT16}


@dataclass(frozen=True)
class Product:
    """A product with a matrix of weights, for one picture: a linear map of `rows` vectors, or a convolution
    of as many output pixels, whose `inputs` are those that one output number is made of."""

    rows: int
    inputs: int
    outputs: int
    of_pixels: bool = False
    """Its input is the picture, or made of it by what does not train: it needs no gradient."""
    linear: bool = True
    """A linear map or a pointwise convolution, beside which LoRA puts an adapter."""
    first: bool = False
    """Nothing that LoRA adapts stands before it."""
    trains: bool = True

    @property
    def weights(self) -> int:
        """Numbers in the matrix."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Attention:
    """`times` attentions of one picture in which `queries` look at `keys`; `width` is that of all heads
    together."""

    queries: int
    keys: int
    width: int
    times: int


@dataclass(frozen=True)
class Frozen:
    """What waits for the backward pass in a tower that adapters train, without what those keep; numbers a
    picture."""

    kept: int
    """In the precision of the arithmetic."""
    shared: int
    """So many of those that the maps read are among them, or are read by several maps: in float32 they are
    there once."""
    kept_float32: int
    """In float32 whatever the arithmetic."""


@dataclass(frozen=True)
class TowerSizes:
    """A vision tower, for one picture."""

    name: str
    image_size: int
    """Side of its pictures in pixels."""
    tokens: int
    """N."""
    token_width: int
    """D."""
    pooled_width: int
    """So many numbers of a token the pooler reads."""
    parameters: int
    products: tuple[Product, ...]
    attentions: tuple[Attention, ...]
    kept: int
    """Numbers a picture that wait for the backward pass in the precision of the arithmetic."""
    kept_float32: int
    """The same in float32 whatever the arithmetic: what norms read."""
    kept_casts: int
    """More of them in bfloat16: autocast rounds a tensor once for each map that reads it."""
    layer: int
    """Parameters of the largest layer that stands in a list, as blocks do,"""
    listed: int
    """and of all of them."""
    frozen: Frozen | None = None
    """None: not known of an external tower unless asked for."""
    untrained: int = 0
    """Parameters that do not train."""

    @property
    def weights(self) -> int:
        """Numbers in its matrices."""
        return sum(product.weights for product in self.products)

    @property
    def kept_weights(self) -> int:
        """Those that the backward pass needs: a convolution keeps them always, a linear map for the gradient
        at what it reads."""
        return sum(p.weights for p in self.products if not p.of_pixels or (p.trains and not p.linear))


@dataclass(frozen=True)
class ProjectorSizes:
    """What stands between tower and language model, frozen: linear maps a token, one after the other."""

    maps: tuple[tuple[int, int], ...] = ()
    """(inputs, outputs) of each."""
    parameters: int = 0


@dataclass(frozen=True)
class LanguageSizes:
    """A decoder language model: attention with h query and k key heads, a gated perceptron, RMS norms."""

    layers: int
    width: int
    """H."""
    heads: int
    """h."""
    key_heads: int
    """k."""
    head_width: int
    """d."""
    hidden: int
    """F."""
    vocabulary: int
    """V."""
    tied: bool
    """The head shares the words' embeddings."""
    qkv_bias: bool = False
    output_bias: bool = False
    head_norms: bool = False
    """Queries and keys are normalised a head (Qwen3)."""
    joint_qkv: bool = False
    """Queries, keys and values are one product (Phi-3)."""
    norms: int = 2
    """A layer's over the whole width; those of Gemma 3 also norm what attention and perceptron made."""
    window: int | None = None
    """So many positions are seen by a layer with a window,"""
    windowed: int = 0
    """of which there are so many."""
    masked: bool = False
    """Attention inside the prompt is not causal, so that a mask is kept (Gemma 3's images)."""

    @property
    def query_width(self) -> int:
        """h x d."""
        return self.heads * self.head_width

    @property
    def key_width(self) -> int:
        """k x d."""
        return self.key_heads * self.head_width

    @property
    def layer_weights(self) -> int:
        """Numbers in a layer's matrices: queries, keys, values, output; gate, up, down."""
        attention = self.width * (2 * self.query_width + 2 * self.key_width)
        return attention + 3 * self.width * self.hidden

    @property
    def layer_parameters(self) -> int:
        """All numbers of a layer."""
        norms = self.norms * self.width + (2 * self.head_width if self.head_norms else 0)
        biases = (self.query_width + 2 * self.key_width) if self.qkv_bias else 0
        biases += self.width if self.output_bias else 0
        return self.layer_weights + norms + biases

    @property
    def head_weights(self) -> int:
        """Numbers in the head's matrix: V x H."""
        return self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All numbers, embeddings of the words once where the head shares them."""
        return self.layers * self.layer_parameters + self.width + self.head_weights * (1 if self.tied else 2)


@dataclass(frozen=True)
class SupervisorSizes:
    """A supervisor and its tower; `tower_in_engine`: its checkpoint holds the vision model, which the engine
    loads with it and never runs."""

    name: str
    tower: TowerSizes
    language: LanguageSizes
    projector: ProjectorSizes
    tower_in_engine: bool
    prompt: int
    """L: tokens of a prompt with both images."""
    prompt_estimated: bool
    """The chat template, and the instruction where no tokenizer is there, are guessed."""
    answer: int | None
    """T of a whole answer, where the family fixes it."""


@dataclass(frozen=True)
class Trained:
    """What trains, in float32: numbers of parameters."""

    tower: int
    pooler: int
    proxies: int
    frozen: int = 0
    """The tower's that do not, beside adapters that do."""

    @property
    def parameters(self) -> int:
        """All of them."""
        return self.tower + self.pooler + self.proxies

    def held(self, parts: int) -> int:
        """Those that a worker holds where the tower is shared out over so many."""
        return part(self.tower, parts) + self.pooler + self.proxies


def part(numbers: int, parts: int) -> int:
    """What a worker holds of numbers that are shared out over so many; each has as many, the last ones of
    which may be padding."""
    return -(-numbers // parts)


def pooler_parameters(token_width: int, embedding_size: int | None, pooling: str) -> int:
    """Query, keys and linear map of `saga_ray.models.pooler`: D + D x D (attention alone) + D x E."""
    linear = token_width * (embedding_size or token_width)
    return linear + (token_width + token_width**2 if pooling == "attention" else 0)


def led(products: list[Product], count: int) -> list[Product]:
    """Layers' products, of which so many stand before all that LoRA adapts: the first layer's, which make
    queries, keys and values."""
    return [replace(product, first=True) for product in products[:count]] + products[count:]


def grid(image_size: int, patch_size: int, merge: int) -> tuple[int, int]:
    """Tokens along a side, and patches of a picture, where each token is made of `merge` x `merge`.

    Raises:
        UserError: pictures of this size are no whole number of tokens.
    """
    covered = patch_size * merge
    if image_size < covered or image_size % covered:
        raise UserError(
            f"image_size={image_size}, but a token covers {covered} x {covered} pixels: set a multiple of "
            f"it, for example {max(1, round(image_size / covered)) * covered}"
        )
    side = image_size // covered
    return side, (side * merge) ** 2
