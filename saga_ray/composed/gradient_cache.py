"""Contrastive gradients of a batch that does not fit in memory (GradCache, arXiv 2101.06983).

A contrastive loss compares all with all, but its gradient reaches the model through the embeddings alone. So
the batch is embedded in chunks without gradient; the loss of all embeddings gives a gradient at each; then
every chunk is embedded again, with gradient, and takes its own. Memory holds one chunk's graph at a time; the
price is a second forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Chunk = TypeVar("Chunk")


def cached_backward(
    embed: Callable[[Chunk], Tensor], chunks: Sequence[Chunk], loss_of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Add to the parameters' gradients that of ``loss_of(embeddings)``; returns the loss.

    Args:
        embed: embeddings (rows, E) of a chunk.
        chunks: the batch, cut so that one chunk's graph fits in memory.
        loss_of: the loss of all chunks' embeddings in order, (all rows, E).

    The second pass repeats the first one's random numbers (dropout), so the result is the plain gradient.
    """
    states, parts = [], []
    with torch.no_grad():
        for chunk in chunks:
            states.append(_random_state())
            parts.append(embed(chunk))
    after = _random_state()
    leaf_BE = torch.cat(parts).requires_grad_()
    loss = loss_of(leaf_BE)
    (gradient_BE,) = torch.autograd.grad(loss, leaf_BE)
    rows = [len(part) for part in parts]
    for chunk, state, gradient_bE in zip(chunks, states, torch.split(gradient_BE, rows), strict=True):
        _restore(state)
        torch.autograd.backward(embed(chunk), gradient_bE)
    _restore(after)
    return loss.detach()


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
