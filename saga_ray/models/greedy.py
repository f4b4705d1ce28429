"""The supervisor's likeliest answers, token by token, with a key-value cache.

Legend: P pairs, N patch tokens of an image, D token width, L prompt length, H width of the language model, T
answer length, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from saga_ray.models.supervisors.base import Supervisor


@torch.no_grad()
def greedy(
    supervisor: Supervisor,
    x_a_PND: Tensor,
    x_b_PND: Tensor,
    style: str,
    longest: int,
    agreed: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Token ids (P, T) of at most ``longest`` tokens; after its end an answer goes on with end tokens.

    `agreed` is given each token of the P answers and returns what is taken in its place: workers that compute
    together go on for equally long.
    """
    from transformers import DynamicCache

    prompt_PLH = supervisor.prompt_embeddings(x_a_PND, x_b_PND, style)
    length, eos = prompt_PLH.shape[1], supervisor.eos_token_id
    positions = supervisor.positions(supervisor.image_spans(style), length + longest)[..., None, :]
    cache = DynamicCache(config=supervisor.language_model.config)
    hidden_PSH = supervisor.hidden_states(prompt_PLH, positions[..., :length], past_key_values=cache)
    tokens: list[Tensor] = []
    ended_P = torch.zeros(len(prompt_PLH), dtype=torch.bool, device=prompt_PLH.device)
    for at in range(length, length + longest):
        token_P = supervisor.logits(hidden_PSH[:, -1]).argmax(-1).masked_fill(ended_P, eos)
        token_P = agreed(token_P) if agreed else token_P
        tokens.append(token_P)
        ended_P = ended_P | (token_P == eos)
        if bool(ended_P.all()):
            break
        hidden_PSH = supervisor.hidden_states(
            supervisor.answer_embeddings(token_P[:, None]), positions[..., at : at + 1], past_key_values=cache
        )
    return torch.stack(tokens, dim=1)
