"""A prompt is looked at before an engine sees it: wrong shapes can crash vLLM, and not-a-number spreads
through a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from saga_ray.errors import UserError
from saga_ray.models.supervisors.base import Supervisor
from saga_ray.rollout.engine import PairRequest


@dataclass(frozen=True)
class PromptShape:
    """What a supervisor's prompts hold: embeddings of the language model's width, or two images' tokens and a
    placeholder for each."""

    hidden_size: int
    image_token_id: int | None
    tokens_per_image: int
    token_width: int

    @classmethod
    def of(cls, supervisor: Supervisor) -> PromptShape:
        return cls(
            supervisor.hidden_size,
            supervisor.image_token_id,
            supervisor.tokens_per_image,
            supervisor.token_width,
        )


def check_prompt(request: PairRequest, shape: PromptShape, *, longest: int, longest_answer: int) -> Tensor:
    """The request's embeddings, known to fit the model: e_LH, or the two images' tokens x_ND.

    Raises:
        UserError: they do not, or the answer may become longer than the engine was started for.
    """
    where = f"step {request.step}, round {request.round}, pair {request.pair}"
    token_ids = request.prompt.token_ids
    if shape.image_token_id is None:
        what, given = "prompt embeddings", request.prompt.embeds_LH
        expected = (len(token_ids), shape.hidden_size)
    else:
        what, given = "image tokens", request.prompt.image_embeds_ND
        expected = (2 * shape.tokens_per_image, shape.token_width)
    if given is None:
        raise UserError(f"{where}: this supervisor's engine reads {what}, and the prompt holds none")
    if tuple(given.shape) != expected:
        raise UserError(f"{where}: {what} have shape {tuple(given.shape)}, the supervisor reads {expected}")
    if shape.image_token_id is not None and token_ids.count(shape.image_token_id) != len(given):
        count = token_ids.count(shape.image_token_id)
        raise UserError(f"{where}: the prompt has {count} image placeholders for {len(given)} image tokens")
    if not 1 <= len(token_ids) <= longest:
        raise UserError(
            f"{where}: a prompt of {len(token_ids)} tokens, the engine was started for 1 to {longest}"
        )
    if not given.is_floating_point():
        raise UserError(f"{where}: {what} are {given.dtype}, not floating point numbers")
    if not bool(torch.isfinite(given).all()):
        raise UserError(f"{where}: {what} are not finite; the encoder has diverged")
    if request.sampling.max_new_tokens > longest_answer:
        raise UserError(
            f"{where}: rollout.max_new_tokens={request.sampling.max_new_tokens}, the engine was started for "
            f"{longest_answer}"
        )
    return given.detach()
