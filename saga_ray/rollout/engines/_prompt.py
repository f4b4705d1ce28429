"""A prompt is looked at before an engine sees it: wrong shapes can crash vLLM, and not-a-number spreads
through a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.rollout.engine import PairRequest


def checked_embeddings(
    request: PairRequest, hidden_size: int, longest_prompt: int, longest_answer: int
) -> Tensor:
    """The request's prompt embeddings e_LH, known to fit the model.

    Raises:
        UserError: they do not, or the answer may become longer than the engine was started for.
    """
    embeds_LH = request.prompt.embeds_LH
    where = f"step {request.step}, round {request.round}, pair {request.pair}"
    if embeds_LH is None:
        raise UserError(
            f"{where}: rollout engines read prompt embeddings, and the supervisor's family made none"
        )
    expected = (len(request.prompt.token_ids), hidden_size)
    if tuple(embeds_LH.shape) != expected:
        shape = tuple(embeds_LH.shape)
        raise UserError(f"{where}: prompt embeddings have shape {shape}, the supervisor reads {expected}")
    if not 1 <= len(embeds_LH) <= longest_prompt:
        length = len(embeds_LH)
        raise UserError(
            f"{where}: a prompt of {length} tokens, the engine was started for 1 to {longest_prompt}"
        )
    if not embeds_LH.is_floating_point():
        raise UserError(f"{where}: prompt embeddings are {embeds_LH.dtype}, not floating point numbers")
    if not bool(torch.isfinite(embeds_LH).all()):
        raise UserError(f"{where}: prompt embeddings are not finite; the encoder has diverged")
    if request.sampling.max_new_tokens > longest_answer:
        raise UserError(
            f"{where}: rollout.max_new_tokens={request.sampling.max_new_tokens}, the engine was started for "
            f"{longest_answer}"
        )
    return embeds_LH.detach()
