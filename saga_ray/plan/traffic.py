"""Bytes that each part of a step reads and writes in a GPU's memory, at least: weights once a pass, what is
kept for backward once out and once in. And those that a training worker gets from the others where weights
are in parts (`saga_ray.train.shards`); it sends them as many.

Legend: b bytes of a number, L prompt, T answer, A = T - 1, V vocabulary.
"""

from __future__ import annotations

from saga_ray.plan.counts import Row
from saga_ray.plan.memory import head_kept, kv_bytes, masks_kept, replay_kept, tower_kept
from saga_ray.plan.sizes import BFLOAT16, FLOAT32, LanguageSizes, TowerSizes, part


def encode(tower: TowerSizes, images: int, precision: int) -> int:
    """Weights (float32; in bfloat16 they are rounded first: written and read again), and what each product
    reads (of a convolution the whole window) and writes."""
    weights = FLOAT32 * tower.parameters
    if precision == BFLOAT16:
        weights += 2 * BFLOAT16 * tower.weights
    vectors = sum(p.rows * (p.inputs + p.outputs) for p in tower.products)
    return weights + precision * images * vectors


def tower_backward(tower: TowerSizes, images: int, precision: int) -> int:
    """What is kept, out and in; weights read, gradients of those that train written."""
    weights = FLOAT32 * (2 * tower.parameters - tower.untrained)
    return 2 * tower_kept(tower, images, precision) + weights


def prefill(language: LanguageSizes, prompts: int, prompt: int, precision: int, batched: int) -> int:
    """The layers' weights once a batch of `batched` tokens, and the cache written."""
    batches = -(-prompts * prompt // batched)
    weights = precision * (language.layers * language.layer_weights + language.head_weights)
    return batches * weights + prompts * prompt * kv_bytes(language, precision)


def decode(language: LanguageSizes, row: Row, sequences: int, at_a_time: int, precision: int) -> int:
    """All weights but the words' once a token step, of which there are A for each batch of sequences that
    run at a time; the cache of everything before a token read for it, one token's written."""
    steps = -(-sequences // at_a_time) * row.read
    weights = precision * (language.layers * language.layer_weights + language.head_weights)
    seen = row.read * row.prompt + row.read * (row.read + 1) // 2
    return steps * weights + sequences * (seen + row.read) * kv_bytes(language, precision)


def replay(
    language: LanguageSizes, row: Row, pairs: int, at_a_time: int, precision: int, *, recompute: bool
) -> int:
    """Weights once a batch of pairs, and the graph written; backward the same again, and, where layers are
    computed a second time, that too."""
    weights = precision * (language.layers * language.layer_weights + language.head_weights)
    graph = replay_kept(language, row, precision, recompute=recompute) + head_kept(language, row, precision)
    masks = masks_kept(language, row, precision)
    return -(-pairs // at_a_time) * (weights + masks) + pairs * graph


def optimizer(parameters: int) -> int:
    """AdamW reads weights, gradients and two moments and writes three of them: 7 x 4 bytes a parameter."""
    return 7 * FLOAT32 * parameters


def tower_exchanged(tower: TowerSizes, parts: int, *, twice: bool) -> int:
    """A micro-batch's: float32 weights in each forward pass (`twice`: they are two) and in backward, from all
    other workers; their gradients once."""
    return (4 if twice else 3) * _others(FLOAT32 * tower.parameters, parts)


def language_exchanged(language: LanguageSizes, parts: int, precision: int) -> int:
    """Of pairs that are replayed at a time: the layers' weights forward and backward. A layer that is
    computed again is there already."""
    return 2 * _others(precision * language.layers * language.layer_parameters, parts)


def _others(bytes_: int, parts: int) -> int:
    """What a worker has not of them."""
    return bytes_ - part(bytes_, parts)
