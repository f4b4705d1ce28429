"""GRPO's advantages and sums against loops, and the counts that make a step's mean."""

from __future__ import annotations

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.losses.grpo import group_advantages, grpo_loss_sum, verdict_cross_entropy_sum

REWARDS = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=16)


@given(REWARDS, st.sampled_from(["population", "sample", "none"]), st.sampled_from([1e-6, 0.1]))
def test_advantages_are_centred_and_scaled_rewards(rewards, std, epsilon):
    advantage = group_advantages(torch.tensor(rewards, dtype=torch.float64), std=std, epsilon=epsilon)
    mean = statistics.fmean(rewards)
    deviation = {
        "population": statistics.pstdev(rewards) + epsilon,
        "sample": statistics.stdev(rewards) + epsilon,
        "none": 1.0,
    }[std]
    assert advantage.tolist() == pytest.approx([(r - mean) / deviation for r in rewards], abs=1e-9)


@pytest.mark.parametrize("std", ["population", "sample", "none"])
@pytest.mark.parametrize("reward", [0.0, 1.0, 0.1])
def test_equal_rewards_have_no_advantage_even_without_epsilon(std, reward):
    advantage = group_advantages(torch.full((7,), reward), std=std, epsilon=0.0)
    assert torch.equal(advantage, torch.zeros(7))


def test_leading_dimensions_are_groups():
    reward = torch.tensor([[1.0, 0, 0, 1], [1, 1, 1, 1], [0, 0, 0, 1]])
    rows = torch.stack([group_advantages(row, std="sample", epsilon=1e-6) for row in reward])
    assert torch.equal(group_advantages(reward, std="sample", epsilon=1e-6), rows)


def test_the_loss_sums_over_generated_tokens_and_nothing_else():
    generator = torch.Generator().manual_seed(0)
    logp = -torch.rand(3, 5, generator=generator, dtype=torch.float64)
    length, advantage = [5, 2, 3], torch.tensor([1.0, -0.5, 0.25])
    mask = torch.arange(5) < torch.tensor(length)[:, None]
    expected = -sum(advantage[g].item() * logp[g, t].item() for g in range(3) for t in range(length[g]))
    padded = torch.where(mask, logp, float("nan")).requires_grad_()
    loss = grpo_loss_sum(padded, mask, advantage)
    loss.backward()
    assert loss.item() == pytest.approx(expected, rel=1e-6)
    assert torch.equal(padded.grad, torch.where(mask, -advantage[:, None].double(), 0.0))


def test_groups_summed_apart_equal_the_step_as_one():
    generator = torch.Generator().manual_seed(1)
    logp, mask = -torch.rand(8, 6, generator=generator), torch.rand(8, 6, generator=generator) < 0.7
    advantage = torch.randn(8, generator=generator)
    parts = sum(grpo_loss_sum(logp[g : g + 4], mask[g : g + 4], advantage[g : g + 4]) for g in (0, 4))
    assert parts.item() == pytest.approx(grpo_loss_sum(logp, mask, advantage).item(), rel=1e-6)


def test_right_completions_are_made_more_likely():
    logit = torch.zeros(2, 1, 3, requires_grad=True)
    token = torch.tensor([[0], [1]])  # the first completion was right, the second wrong
    logp = logit.log_softmax(-1).gather(-1, token[..., None])[..., 0]
    advantage = group_advantages(torch.tensor([1.0, 0.0]), std="population", epsilon=1e-6)
    grpo_loss_sum(logp, torch.ones(2, 1, dtype=torch.bool), advantage).backward()
    assert logit.grad[0, 0, 0] < 0 < logit.grad[1, 0, 1]


def test_the_verdicts_cross_entropy_is_summed_in_full_precision():
    logit = torch.randn(4, 9, generator=torch.Generator().manual_seed(2)).bfloat16()
    target = torch.tensor([3, 3, 0, 8])
    expected = -sum(logit.double().log_softmax(-1)[r, target[r]].item() for r in range(4))
    loss = verdict_cross_entropy_sum(logit, target)
    assert loss.dtype == torch.float32 and loss.item() == pytest.approx(expected, rel=1e-6)
