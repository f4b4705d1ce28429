"""Attention distillation against loops, and where attention is zero."""

from __future__ import annotations

import math

import pytest
import torch

from saga_ray.losses.distillation import attention_kl_sum


def random_attention(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def test_a_rollout_without_describing_tokens_adds_nothing():
    student = torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
    loss = attention_kl_sum(torch.zeros(2, 3), student)
    loss.backward()
    assert loss.item() == 0 and torch.equal(student.grad, torch.zeros(3))


def test_the_loss_is_the_sum_of_divergences_with_one_student_or_one_a_rollout():
    teacher, student = random_attention(3, 5, seed=1), random_attention(5, seed=2)
    expected = sum(
        t * (math.log(t) - math.log(s))
        for row in teacher.tolist()
        for t, s in zip(row, student.tolist(), strict=True)
    )
    assert attention_kl_sum(teacher, student).item() == pytest.approx(expected, rel=1e-5)
    assert attention_kl_sum(teacher, student.repeat(3, 1)).item() == pytest.approx(expected, rel=1e-5)


def test_equal_distributions_have_no_divergence():
    teacher = random_attention(2, 5, seed=3)
    assert attention_kl_sum(teacher, teacher).item() == pytest.approx(0, abs=1e-6)


def test_the_gradient_at_the_students_logits_is_student_minus_teacher():
    teacher = random_attention(1, 5, seed=4).requires_grad_()
    logit = torch.randn(5, generator=torch.Generator().manual_seed(5), requires_grad=True)
    attention_kl_sum(teacher, logit.softmax(-1)).backward()
    torch.testing.assert_close(logit.grad, logit.detach().softmax(-1) - teacher[0].detach().float())
    assert teacher.grad is None


def test_zeros_on_either_side_stay_finite():
    student = torch.tensor([200.0, 0.0, 0.0], requires_grad=True)  # its softmax underflows to 1, 0, 0
    loss = attention_kl_sum(torch.tensor([[0.0, 1.0, 0.0]]), student.softmax(-1))
    loss.backward()
    assert math.isfinite(loss.item()) and torch.isfinite(student.grad).all()
