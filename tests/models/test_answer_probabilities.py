"""Log-probabilities a few rows at a time against the whole at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from saga_ray.models import answer_probabilities
from saga_ray.models.answer_probabilities import log_probabilities

ROWS, WIDTH, VOCABULARY = 11, 6, 13


def capped(head: nn.Linear) -> Callable[[Tensor], Tensor]:
    """A head as Gemma 2's, whose logits are bounded: not every head is linear."""

    def logits(hidden_KH: Tensor) -> Tensor:
        return 3 * torch.tanh(head(hidden_KH) / 3)

    return logits


@pytest.mark.parametrize("at_a_time", [1, 4, 11, 100])
@pytest.mark.parametrize("temperature", [None, 0.7])
@pytest.mark.parametrize("kind", [lambda head: head, capped], ids=["linear", "capped"])
def test_values_and_gradients_are_those_of_all_rows_at_once(monkeypatch, at_a_time, temperature, kind):
    monkeypatch.setattr(answer_probabilities, "LOGITS", at_a_time * VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).double().requires_grad_(False)
    hidden_KH = torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()
    tokens_K = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    weight_K = torch.randn(ROWS, generator=generator, dtype=torch.float64)

    found_K = log_probabilities(
        kind(head), hidden_KH, tokens_K, vocabulary=VOCABULARY, temperature=temperature
    )
    logits_KV = kind(head)(hidden_KH) / (temperature or 1)
    expected_K = logits_KV.log_softmax(-1)[range(ROWS), tokens_K]
    torch.testing.assert_close(found_K, expected_K)
    (found_KH,) = torch.autograd.grad((found_K * weight_K).sum(), [hidden_KH])
    (expected_KH,) = torch.autograd.grad((expected_K * weight_K).sum(), [hidden_KH])
    torch.testing.assert_close(found_KH, expected_KH)


def test_no_more_logits_exist_than_are_allowed(monkeypatch):
    monkeypatch.setattr(answer_probabilities, "LOGITS", 4 * VOCABULARY)
    seen: list[int] = []
    head = nn.Linear(WIDTH, VOCABULARY).requires_grad_(False)

    def logits(hidden_KH: Tensor) -> Tensor:
        seen.append(len(hidden_KH))
        return head(hidden_KH)

    hidden_KH = torch.randn(ROWS, WIDTH, requires_grad=True)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        logp_K = log_probabilities(
            logits, hidden_KH, torch.zeros(ROWS, dtype=torch.long), vocabulary=VOCABULARY, temperature=None
        )
    assert seen == [4, 4, 3]
    assert kept[-1] == ROWS * WIDTH, "what is kept for backward is as wide as the hidden states"
    logp_K.sum().backward()
    assert seen == [4, 4, 3], "backward computes no logits"


def test_without_a_gradient_none_is_computed():
    head = nn.Linear(WIDTH, VOCABULARY).requires_grad_(False)
    logp_K = log_probabilities(
        head, torch.randn(3, WIDTH), torch.zeros(3, dtype=torch.long), vocabulary=VOCABULARY, temperature=None
    )
    assert not logp_K.requires_grad


def test_half_precision_states_give_float32_probabilities():
    head = nn.Linear(WIDTH, VOCABULARY).bfloat16().requires_grad_(False)
    hidden_KH = torch.randn(3, WIDTH, dtype=torch.bfloat16, requires_grad=True)
    logp_K = log_probabilities(
        head, hidden_KH, torch.zeros(3, dtype=torch.long), vocabulary=VOCABULARY, temperature=None
    )
    logp_K.sum().backward()
    assert logp_K.dtype == torch.float32
    assert hidden_KH.grad is not None and hidden_KH.grad.dtype == torch.bfloat16
