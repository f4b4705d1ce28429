"""The log-probability of each generated token, with gradient, in memory that no vocabulary blows up.

A language model's logits are the largest tensor of replay: 8 answers of 1,024 tokens over 152,000 words are
4.6 GiB in float32, and backward would hold three of that size. But a row's log-probability depends on its own
hidden state alone and the head is frozen, so the gradient at that state can be computed together with it, a
few rows at a time: K x H numbers are kept in place of K x V, for the operations that backward would need
anyway.

Legend: K generated tokens, k of them at a time, H width of the language model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LOGITS = 2**26
"""So many logits exist at a time: 256 MiB in float32."""

LogProbabilities = Callable[[Tensor, Tensor], Tensor]
"""From hidden states h_kH and token ids (k,) to their log-probabilities (k,)."""


def log_probabilities(
    logits: Callable[[Tensor], Tensor],
    hidden_KH: Tensor,
    tokens_K: Tensor,
    *,
    vocabulary: int,
    temperature: float | None,
) -> Tensor:
    """log p of each token in nats, at least float32, differentiable (once) in the hidden states.

    Args:
        logits: the frozen head; a row's logits depend on that row alone.
        vocabulary: V.
        temperature: logits are divided by it; none: the model's own probabilities.
    """

    def logp(hidden_kH: Tensor, tokens_k: Tensor) -> Tensor:
        logits_kV = scaled(logits(hidden_kH), temperature)
        return logits_kV.log_softmax(-1).gather(-1, tokens_k[:, None])[:, 0]

    rows = max(1, LOGITS // vocabulary)
    logp_K: Tensor = _RowByRow.apply(hidden_KH, tokens_K, logp, rows)  # type: ignore[no-untyped-call]
    return logp_K


def scaled(logits_KV: Tensor, temperature: float | None) -> Tensor:
    """Logits in at least float32, divided by the temperature, if any."""
    logits_KV = logits_KV.to(torch.promote_types(logits_KV.dtype, torch.float32))
    return logits_KV if temperature is None else logits_KV / temperature


class _RowByRow(torch.autograd.Function):
    """Computes rows that are independent of one another, and their gradients with them."""

    @staticmethod
    def forward(ctx: Any, hidden_KH: Tensor, tokens_K: Tensor, logp: LogProbabilities, rows: int) -> Tensor:
        found, gradients = [], []
        chunks = zip(torch.split(hidden_KH, rows), torch.split(tokens_K, rows), strict=True)
        for hidden_kH, tokens_k in chunks:
            if not ctx.needs_input_grad[0]:
                found.append(logp(hidden_kH, tokens_k))
                continue
            with torch.enable_grad():
                leaf_kH = hidden_kH.detach().requires_grad_(True)
                logp_k = logp(leaf_kH, tokens_k)
                # No row sees another, so the sum's gradient is each row's own. Not torch.autograd.grad, which
                # fails beside hooks on modules' inputs, such as those of torch's FLOP counter.
                torch.autograd.backward(logp_k.sum())
            assert leaf_kH.grad is not None
            gradients.append(leaf_kH.grad)
            found.append(logp_k.detach())
        ctx.save_for_backward(*([torch.cat(gradients)] if gradients else []))
        return torch.cat(found)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, at_logp_K: Tensor) -> tuple[Tensor | None, None, None, None]:
        (gradient_KH,) = ctx.saved_tensors
        return (at_logp_K[:, None] * gradient_KH).to(gradient_KH.dtype), None, None, None
