"""Operations of each part of a step. An operation is a multiplication or an addition: a product of m x k and
k x n counts 2mkn, attention of q queries to k keys over w numbers (all heads) 4qkw, for scores and mean.

Counted are the products of tower, projector and language model, nothing else: not norms, activations and
softmax, which are a few operations a number where a product is thousands, nor pooler and metric loss, which
see one vector a picture. Attention counts the whole square: that is what torch's attention with a
mask computes; a fused causal one computes half of it.

Backward, a product costs once for the gradient of what it reads and once more for that of its weights, which
frozen ones have not; attention costs twice its forward pass. (Fused kernels compute the scores again: half a
forward pass more, not counted.)

Legend: L prompt, T answer, A = T - 1 answer tokens that are read, G completions of a pair, S row length, H
width of the language model, F width inside its perceptron, V vocabulary, w width of all query heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.plan.sizes import LanguageSizes, ProjectorSizes, TowerSizes


@dataclass(frozen=True)
class Row:
    """How one pair's answers stand in replay: `saga_ray.models.replay`."""

    prompt: int
    """L."""
    answer: int
    """T."""
    group: int
    """G."""
    shared_prefix: bool = True
    """The prompt is read once for all of a pair's answers."""

    @property
    def read(self) -> int:
        """A: nothing follows the last token, so it is never read."""
        return self.answer - 1

    @property
    def positions(self) -> int:
        """Positions that a pair takes: L + G A, or G (L + A) without a shared prefix."""
        prompts = 1 if self.shared_prefix else self.group
        return prompts * self.prompt + self.group * self.read

    @property
    def looks(self) -> int:
        """Queries x keys of a pair: L^2 for the prompt and A (L + A) for each answer, or (L + A)^2 each."""
        whole = self.prompt + self.read
        if self.shared_prefix:
            return self.prompt**2 + self.group * self.read * whole
        return self.group * whole**2


def encode(tower: TowerSizes, images: int) -> int:
    """The tower's forward pass: 2 x rows x inputs x outputs of each product, 4 x queries x keys x width of
    each attention, a picture."""
    return images * (_products(tower) + _attentions(tower))


def tower_backward(tower: TowerSizes, images: int) -> int:
    """Backward through a tower: each product once for what it reads, unless that is pixels, and once for its
    weights, if they train; twice each attention."""
    products = sum(2 * p.rows * p.weights * (p.trains + (not p.of_pixels)) for p in tower.products)
    return images * (products + 2 * _attentions(tower))


def prefill(language: LanguageSizes, projector: ProjectorSizes, images: int, prompt: int) -> int:
    """The prompt of a pair read once: projector of both images' `images` tokens, 2 x weights of the layers a
    position, 4 L^2 w a layer, and the head at the last position."""
    layers = language.layers * (2 * prompt * language.layer_weights + 4 * prompt**2 * language.query_width)
    return _project(projector, images) + layers + 2 * language.head_weights


def decode_token(language: LanguageSizes, context: int) -> int:
    """One token of one completion, which sees `context` positions, its own among them: 2 x weights of the
    layers, 4 x context x w a layer, as far as its window goes, and the head."""
    layers = 2 * language.layers * language.layer_weights
    return layers + 4 * _seen(language, context) * language.query_width + 2 * language.head_weights


def decode(language: LanguageSizes, prompt: int, answer: int) -> int:
    """A whole completion of T tokens behind its prompt: the prompt gives the first, A are read."""
    read = answer - 1
    seen = sum(_seen(language, prompt + at) for at in range(1, read + 1))
    layers = 2 * read * language.layers * language.layer_weights + 4 * seen * language.query_width
    return layers + 2 * read * language.head_weights


def replay_forward(
    language: LanguageSizes, projector: ProjectorSizes, images: int, row: Row, *, teacher: bool
) -> int:
    """A pair's answers again, with gradient: the layers at S positions, attention where the layout looks,
    the head at G T tokens there and back (`saga_ray.models.answer_probabilities`; the verdicts' logits once
    more, a row an answer, are not counted). `teacher`: one layer's scores once more, 2 A (L + A) w an
    answer, for distillation."""
    head = 4 * row.group * row.answer * language.head_weights
    observed = 2 * row.group * row.read * (row.prompt + row.read) * language.query_width if teacher else 0
    return _project(projector, images) + _layers(language, row) + head + observed


def replay_backward(
    language: LanguageSizes, projector: ProjectorSizes, images: int, row: Row, *, recompute: bool = False
) -> int:
    """Backward to the images' tokens through frozen weights: each product once, attention twice.
    `recompute`: behind each layer's forward pass, up to its last product, which nothing waits for unless a
    norm follows it."""
    attention = 4 * language.layers * row.looks * language.query_width
    again = 0
    if recompute:
        followed = language.norms > 2
        last = 0 if followed else 2 * row.positions * language.width * language.hidden
        again = _layers(language, row) - language.layers * last
    return _project(projector, images) + _layers(language, row) + attention + again


def optimizer(parameters: int) -> int:
    """AdamW: about 12 operations a parameter (two moments, their corrections, root, step, decay)."""
    return 12 * parameters


def _layers(language: LanguageSizes, row: Row) -> int:
    """The language model's layers, forward: 2 x weights a position, 4 w a look."""
    return language.layers * (
        2 * row.positions * language.layer_weights + 4 * row.looks * language.query_width
    )


def _products(tower: TowerSizes) -> int:
    return sum(2 * product.rows * product.weights for product in tower.products)


def _attentions(tower: TowerSizes) -> int:
    return sum(4 * a.queries * a.keys * a.width * a.times for a in tower.attentions)


def _seen(language: LanguageSizes, context: int) -> int:
    """Positions that a token sees in all layers together."""
    near = context if language.window is None else min(context, language.window)
    return (language.layers - language.windowed) * context + language.windowed * near


def _project(projector: ProjectorSizes, tokens: int) -> int:
    return sum(2 * tokens * inputs * outputs for inputs, outputs in projector.maps)
