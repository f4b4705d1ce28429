"""Attention distillation against loops, and where attention is zero."""

from __future__ import annotations

import math

import pytest
import torch

from saga_ray.losses.distillation import attention_kl_sum, teacher_attention


def random_attention(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).softmax(-1)


def test_the_teacher_averages_describing_tokens_and_renormalises_over_the_images_patches():
    attention = random_attention(2, 4, 10)
    query = torch.tensor([[True, False, True, False], [False, True, True, True]])
    teacher = teacher_attention(attention, query, slice(3, 7))
    for r, tokens in enumerate(([0, 2], [1, 2, 3])):
        mean = [sum(attention[r, t, s].item() for t in tokens) / len(tokens) for s in range(3, 7)]
        assert teacher[r].tolist() == pytest.approx([m / sum(mean) for m in mean], rel=1e-5)


def test_the_teacher_ignores_what_other_tokens_hold_and_carries_no_gradient():
    attention = random_attention(1, 3, 6)
    query = torch.tensor([[True, True, False]])
    clean = teacher_attention(attention, query, slice(0, 4))
    attention[0, 2] = float("nan")
    padded = teacher_attention(attention.requires_grad_(), query, slice(0, 4))
    assert torch.equal(clean, padded) and not padded.requires_grad


def test_a_rollout_without_describing_tokens_or_without_attention_on_the_image_adds_nothing():
    attention = random_attention(2, 3, 6)
    attention[1, :, 2:5] = 0
    query = torch.tensor([[False, False, False], [True, True, False]])
    teacher = teacher_attention(attention, query, slice(2, 5))
    assert not teacher.any()
    student = torch.tensor([0.2, 0.3, 0.5], requires_grad=True)
    loss = attention_kl_sum(teacher, student)
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
