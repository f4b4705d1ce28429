"""Bytes that a training GPU and a rollout GPU hold, and the largest batch that fits.

What waits for the backward pass was read off the models' code (`transformers`, `saga_ray.models.replay`) and
is held by tests to what autograd saves. Attention is taken to be fused, so that no scores are kept.

Legend: b bytes of a number, L prompt, T answer, A = T - 1, G completions of a pair, S row length, H width of
the language model, F width inside its perceptron, h query heads, k key heads, d width of a head, V
vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from saga_ray.models.answer_probabilities import LOGITS
from saga_ray.plan.counts import Row
from saga_ray.plan.sizes import (
    BFLOAT16,
    FLOAT32,
    LanguageSizes,
    ProjectorSizes,
    TowerSizes,
    Trained,
    part,
)

GIB = 2**30
KV_BLOCK = 16
"""Tokens of a block of vLLM's cache on GPUs; whole blocks alone are shared."""
BATCHED_TOKENS = 8192
"""Tokens that vLLM computes at a time, for which it keeps room."""


@dataclass(frozen=True)
class TrainingState:
    """Bytes that a training worker holds all the time."""

    weights: int
    """Tower with its adapters, pooler and proxies, float32."""
    gradients: int
    """Of those that train; the pooler's also under each loss."""
    optimizer: int
    """AdamW's two moments."""
    supervisor: int
    """The frozen language model and its projector."""
    tokens: int
    """A step's tokens and two losses' gradients at them, float32."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.supervisor + self.tokens


def training_state(
    trained: Trained,
    language: LanguageSizes,
    projector: ProjectorSizes,
    *,
    precision: int,
    token_numbers: int,
    tower_parts: int = 1,
    language_parts: int = 1,
) -> TrainingState:
    """4 bytes a parameter for weights; of those that train 4 for gradients (and 8 for each of the pooler's,
    whose losses are kept apart: `train.gradients.ParameterBuffer`), 8 for AdamW; the language model in
    `precision` bytes, its projector in float32; 3 x 4 bytes for each of a step's `token_numbers`
    (`train.gradients.TokenBuffer`). Of a tower and of a language model's layers that are shared out over so
    many workers, a part."""
    count = trained.held(tower_parts)
    layers = language.layers * language.layer_parameters
    frozen = part(layers, language_parts) + language.parameters - layers
    return TrainingState(
        weights=FLOAT32 * (count + trained.frozen),
        gradients=FLOAT32 * (count + 2 * trained.pooler),
        optimizer=2 * FLOAT32 * count,
        supervisor=precision * frozen + FLOAT32 * projector.parameters,
        tokens=3 * FLOAT32 * token_numbers,
    )


def update(trained: Trained, tower_parts: int = 1) -> int:
    """Beside the state during the update: a copy of the gradients, in which workers add them up, or of the
    second moments' roots."""
    return FLOAT32 * trained.held(tower_parts)


def tower_gathered(tower: TowerSizes) -> int:
    """The most that stands whole of a tower in parts (`saga_ray.train.shards`), float32, beside them: while a
    layer's backward pass runs its weights, its gradients, the next layer's weights as they arrive and the
    last one's gradients as they leave; and weights and gradients of what stands in no list. An upper bound:
    not all of it is there at one time, as measured on a CPU, which has no streams."""
    return FLOAT32 * (4 * tower.layer + 2 * (tower.parameters - tower.listed))


def language_gathered(language: LanguageSizes, precision: int) -> int:
    """The same of a language model whose layers are in parts and have no gradients: a layer's weights, the
    next one's as they arrive, and the buffer in which its own did."""
    return 3 * precision * language.layer_parameters


def tower_kept(tower: TowerSizes, images: int, precision: int) -> int:
    """What the graph of so many pictures keeps: `kept` numbers in the arithmetic's precision, `kept_float32`
    in float32; in bfloat16 also rounded weights, and what autocast rounds twice."""
    bytes_ = images * (precision * tower.kept + FLOAT32 * tower.kept_float32)
    if precision == BFLOAT16:
        bytes_ += BFLOAT16 * (images * tower.kept_casts + tower.kept_weights)
    return bytes_


def replay_kept(language: LanguageSizes, row: Row, precision: int, *, recompute: bool = False) -> int:
    """What replay's graph keeps of a pair in the language model's layers: what each of them keeps, or its
    input alone, b S H, where it is computed again.

    Once: the last norm's input in float32, and the rotary cosines and sines, 2 b d a position.
    """
    s, whole = row.positions, row.prompt + row.read
    layer = precision * s * language.width if recompute else layer_kept(language, row, precision)
    rotary = 2 * precision * (s if row.shared_prefix else whole) * language.head_width
    return language.layers * layer + FLOAT32 * s * (language.width + 1) + rotary


def layer_kept(language: LanguageSizes, row: Row, precision: int) -> int:
    """What a layer keeps of a pair, for S positions:

    - its norms' inputs in float32, each 4 S H, and their roots; with norms a head also 4 S (h + k) d;
    - queries, once as the row and once more as answers: b (S + G A) h d; attention's result, b S h d;
    - keys and values, as the row and as each answer with its prompt: 2 b (S + G (L + A)) k d;
    - scores' sums, 4 S h;
    - gate, its activation, up: 3 b S F.

    Frozen maps keep no input, but a value that is cut out of a joint projection keeps all of it. Without a
    shared prefix a row is one answer with its prompt and is kept once.

    Not counted are float32 words of Qwen3-VL, whose first norm keeps the features beside them (5 % in a small
    model).
    """
    s, whole = row.positions, row.prompt + row.read
    norms = language.norms * FLOAT32 * s * (language.width + 1)
    if language.head_norms:
        norms += FLOAT32 * s * (language.heads + language.key_heads) * (language.head_width + 1)
    if row.shared_prefix:
        queries = s + row.group * row.read
        keys = s + row.group * whole
    else:
        queries, keys = s, s
    attention = precision * ((queries + s) * language.query_width + 2 * keys * language.key_width)
    if language.joint_qkv:
        attention += precision * s * (language.query_width + language.key_width)
    sums = FLOAT32 * s * language.heads
    return norms + attention + sums + 3 * precision * s * language.hidden


def masks_kept(language: LanguageSizes, row: Row, precision: int) -> int:
    """What replay's graph keeps of attention's masks, whatever the number of pairs. A layer keeps that of the
    answers, b A (L + A), and of a prompt that needs one, b L^2; without a shared prefix the latter is the
    row's, b (L + A)^2."""
    whole = row.prompt + row.read
    prompt = row.prompt if row.shared_prefix else whole
    answers = row.read * whole if row.shared_prefix else 0
    return language.layers * precision * (answers + (prompt**2 if language.masked else 0))


def head_kept(language: LanguageSizes, row: Row, precision: int) -> int:
    """The head's part of a pair's graph: the gradients of G T tokens' log-probabilities at the hidden
    states, b G T H (`saga_ray.models.answer_probabilities`)."""
    return precision * row.group * row.answer * language.width


def replay_peak(
    language: LanguageSizes, row: Row, precision: int, pairs: int, *, recompute: bool = False
) -> int:
    """The most that replaying so many pairs takes, between forward and backward: the layers' graph and the
    head's, and beside them the larger of what comes and goes: three float32 tensors of logits (they, their
    log-probabilities, a gradient), or the layer that is computed again."""
    kept = replay_kept(language, row, precision, recompute=recompute) + head_kept(language, row, precision)
    logits = min(LOGITS, pairs * row.group * row.answer * language.vocabulary)
    again = pairs * layer_kept(language, row, precision) if recompute else 0
    masks = masks_kept(language, row, precision) // (language.layers if recompute else 1)
    return pairs * kept + masks + max(3 * FLOAT32 * logits, again)


def kv_bytes(language: LanguageSizes, precision: int) -> int:
    """Cache of one token: keys and values of every layer, 2 x layers x k x d x b. Those that have left a
    layer's window are counted on."""
    return 2 * language.layers * language.key_width * precision


def group_tokens(row: Row) -> int:
    """Cache that a pair's G completions fill, in tokens: the prompt's whole blocks once, the rest each."""
    shared = row.prompt // KV_BLOCK
    each = math.ceil((row.prompt + row.answer) / KV_BLOCK) - shared
    return KV_BLOCK * (shared + row.group * each)


def engine_weights(
    language: LanguageSizes, projector: ProjectorSizes, tower: TowerSizes | None, precision: int
) -> int:
    """What a rollout actor holds: the language model (with the checkpoint's vision model, where the engine
    loads it) in vLLM, and the projector."""
    count = language.parameters + (tower.parameters if tower else 0)
    return precision * count + FLOAT32 * projector.parameters


def engine_workspace(language: LanguageSizes, sequences: int, precision: int) -> int:
    """Room that vLLM measures before it makes its cache: a batch of prompts inside one layer, b x tokens x
    (2 H + 3 F), and two float32 copies of the sequences' logits."""
    layer = precision * BATCHED_TOKENS * (2 * language.width + 3 * language.hidden)
    return layer + 2 * FLOAT32 * sequences * language.vocabulary


def largest(fits: Callable[[int], bool], at_most: int) -> int:
    """The largest count that fits, up to a limit; 0: not even 1. What fits must fit when there is less."""
    low, high = 0, at_most + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
