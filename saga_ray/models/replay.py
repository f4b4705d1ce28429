"""Replay: the probability of answers already generated, with gradient into the images' tokens.

The G completions of a pair share the prompt [X_a, X_b, instruction]. With a shared prefix the language
model reads prompt, completion 1, ..., completion G as one row and each completion attends to the prompt and
to itself, so that the prompt is computed once, forward and backward. The naive way, the reference, reads
every completion with a prompt of its own. They agree to rounding in probabilities, gradients and attention.
Only positions that predict a real answer token reach the language model's head, a few at a time
(`answer_probabilities`). The layers may be computed a second time in backward (`recompute`), for language
models whose activations do not fit.

Legend: P pairs, G completions of a pair, N patch tokens of an image, D token width, L prompt length, T
answer length, A = T - 1 answer tokens that are read, S row length, H width of the language model, K real
answer tokens of all completions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.models.answer_probabilities import log_probabilities, scaled
from saga_ray.models.recompute import recomputed
from saga_ray.models.replay_attention import SHARED_PREFIX, WHOLE, Layout, Teacher, attending
from saga_ray.models.supervisors.base import Supervisor


@dataclass(frozen=True)
class Replay:
    """What the supervisor makes of answers to the images as they are now."""

    logp_PGT: Tensor
    """log p of each generated token in nats, at least float32, with gradient; 0 at padding."""
    verdict_logits_PG2: Tensor
    """Logits of yes and no where the verdict was generated, with gradient; 0 where there is no verdict."""
    verdict_mask_PG: Tensor
    """True where the answer has a verdict."""
    attention_a_PGN: Tensor | None
    """Teacher attention over image a's tokens: mean over heads, averaged over the generated tokens that
    describe image a, renormalised over its patches; 0 where none does. No gradient; none if no layer was
    asked for."""
    attention_b_PGN: Tensor | None
    """The same over image b's."""


def replay(
    supervisor: Supervisor,
    x_a_PND: Tensor,
    x_b_PND: Tensor,
    tokens_PGT: Tensor,
    mask_PGT: Tensor,
    *,
    style: str,
    layer: int | None,
    temperature: float | None,
    shared_prefix: bool,
    recompute: bool = False,
) -> Replay:
    """Compute the log-probabilities of P x G answers again, with gradient into both images' tokens.

    Args:
        supervisor: frozen; its parameters get no gradient.
        tokens_PGT: generated token ids, padded on the right with any id.
        mask_PGT: true at generated tokens, the end of the answer included; false at padding.
        style: the prompt's.
        layer: 0-based layer whose attention is recorded; none: no attention.
        temperature: logits are divided by it; none: the model's own probabilities.
        shared_prefix: compute each pair's prompt once, or (the reference) once for each completion.
        recompute: keep the inputs of the language model's layers alone and compute each again in backward.
    """
    assert not any(each.requires_grad for each in supervisor.language_model.parameters()), (
        "the language model is frozen: its head's gradient is never computed"
    )
    tokens_PGT = tokens_PGT.masked_fill(~mask_PGT, 0)
    prompt_PLH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, style)
    # Nothing follows an answer's last token, so it is predicted but never read.
    answer_PGAH = supervisor.answer_embeddings(tokens_PGT[..., :-1])
    teacher = None if layer is None else _teacher(supervisor, layer, style, tokens_PGT, mask_PGT)
    _, group, answer, _ = answer_PGAH.shape
    both_ways = supervisor.image_spans(style) if supervisor.images_attend_both_ways else ()
    layout = Layout(prompt_PLH.shape[1], group, answer, both_ways, teacher)
    hidden_states = _with_shared_prefix if shared_prefix else _each_with_its_prompt
    hidden_PGTH = hidden_states(supervisor, style, prompt_PLH, answer_PGAH, layout, recompute)

    logp_K = log_probabilities(
        supervisor.logits,
        hidden_PGTH[mask_PGT],
        tokens_PGT[mask_PGT],
        vocabulary=supervisor.language_model.config.get_text_config().vocab_size,
        temperature=temperature,
    )
    logp_PGT = logp_K.new_zeros(mask_PGT.shape).masked_scatter(mask_PGT, logp_K)
    at_B = supervisor.verdict_positions(tokens_PGT.flatten(0, 1), mask_PGT.flatten(0, 1))
    at_PG = at_B.reshape(mask_PGT.shape[:2])
    verdict_logits_PG2 = _verdicts(supervisor, hidden_PGTH, at_PG, temperature)
    attention_a_PGN, attention_b_PGN = (teacher and teacher.attention_PGN) or (None, None)
    return Replay(logp_PGT, verdict_logits_PG2, at_PG >= 0, attention_a_PGN, attention_b_PGN)


def _with_shared_prefix(
    supervisor: Supervisor,
    style: str,
    prompt_PLH: Tensor,
    answer_PGAH: Tensor,
    layout: Layout,
    recompute: bool,
) -> Tensor:
    length, group, answer = layout.length, layout.group, layout.answer
    positions = supervisor.positions(supervisor.image_spans(style), length + answer)
    positions = torch.cat([positions[..., :length], *[positions[..., length:]] * group], dim=-1)
    row_PSH = torch.cat([prompt_PLH, answer_PGAH.flatten(1, 2)], dim=1)
    with _replaying(supervisor, SHARED_PREFIX, recompute):
        hidden_PSH = supervisor.hidden_states(row_PSH, positions[..., None, :], layout=layout)
    first_PG1H = hidden_PSH[:, None, length - 1 : length].expand(-1, group, -1, -1)
    answer_PGAH = hidden_PSH[:, length:].reshape(*answer_PGAH.shape[:3], hidden_PSH.shape[-1])
    return torch.cat([first_PG1H, answer_PGAH], dim=2)


def _each_with_its_prompt(
    supervisor: Supervisor,
    style: str,
    prompt_PLH: Tensor,
    answer_PGAH: Tensor,
    layout: Layout,
    recompute: bool,
) -> Tensor:
    length, group, answer = layout.length, layout.group, layout.answer
    positions = supervisor.positions(supervisor.image_spans(style), length + answer)
    row_BSH = torch.cat([prompt_PLH.repeat_interleave(group, dim=0), answer_PGAH.flatten(0, 1)], dim=1)
    with _replaying(supervisor, WHOLE, recompute):
        hidden_BSH = supervisor.hidden_states(row_BSH, positions[..., None, :], layout=layout)
    hidden_BTH = hidden_BSH[:, length - 1 :]
    return hidden_BTH.reshape(-1, group, *hidden_BTH.shape[1:])


@contextmanager
def _replaying(supervisor: Supervisor, function: str, recompute: bool) -> Iterator[None]:
    """The language model's layers attend by a function of `replay_attention`, in backward too."""
    decoder = supervisor.decoder
    with attending(decoder, function):
        if not recompute:
            yield
            return
        layers: Any = decoder.layers
        with recomputed(layers, partial(attending, decoder, function)):
            yield


def _teacher(supervisor: Supervisor, layer: int, style: str, tokens_PGT: Tensor, mask_PGT: Tensor) -> Teacher:
    if layer >= supervisor.layers:
        raise UserError(
            f"distillation.layer={layer} is counted from 0 and the supervisor's language model has "
            f"{supervisor.layers} layers; choose at most {supervisor.layers - 1}"
        )
    masks_BT = supervisor.description_masks(tokens_PGT.flatten(0, 1), mask_PGT.flatten(0, 1))
    describes_a_BA, describes_b_BA = (mask_BT[:, :-1] for mask_BT in masks_BT)
    return Teacher(
        layer, tokens_PGT.shape[1], supervisor.image_spans(style), (describes_a_BA, describes_b_BA)
    )


def _verdicts(
    supervisor: Supervisor, hidden_PGTH: Tensor, at_PG: Tensor, temperature: float | None
) -> Tensor:
    """Logits of yes and no where the verdict stands, `at_PG`; 0 where it is -1."""
    found_PG = at_PG >= 0
    pair, completion = found_PG.nonzero(as_tuple=True)
    logits_KV = scaled(supervisor.logits(hidden_PGTH[pair, completion, at_PG[found_PG]]), temperature)
    logits_K2 = logits_KV[:, list(supervisor.verdict_token_ids)]
    return logits_K2.new_zeros(*at_PG.shape, 2).index_put((pair, completion), logits_K2)
