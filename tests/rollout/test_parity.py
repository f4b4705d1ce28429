"""The gate compares the engine's log-probabilities with replay's, token by token."""

from __future__ import annotations

import math

import pytest
import torch

from saga_ray.errors import UserError
from saga_ray.rollout.groups import Completion, Group
from saga_ray.rollout.parity import parity


def group(lengths: tuple[int, ...], value: float) -> Group:
    completions = [Completion([1] * n, "", [value - 0.1 * t for t in range(n)], "stop", 0) for n in lengths]
    return Group(0, True, completions, [0.0] * len(lengths), [False] * len(lengths), 0, 3)


def replayed(groups: list[Group], padding: float) -> torch.Tensor:
    longest = max(len(completion.logprobs) for one in groups for completion in one.completions)
    logp_PGT = torch.full((len(groups), 2, longest), padding)
    for p, one in enumerate(groups):
        for g, completion in enumerate(one.completions):
            logp_PGT[p, g, : len(completion.logprobs)] = torch.tensor(completion.logprobs)
    return logp_PGT


def test_padding_is_not_compared_and_differences_are_averaged_over_tokens() -> None:
    groups = [group((2, 4), -1.0), group((1, 3), -2.0)]
    logp_PGT = replayed(groups, padding=math.nan)
    logp_PGT[0, 1, 3] += 0.1
    logp_PGT[1, 0, 0] -= 0.3
    report = parity(groups, logp_PGT, tolerance=0.05)
    assert report.tokens == 10
    assert report.mean == pytest.approx(0.04, abs=1e-6)
    assert report.largest == pytest.approx(0.3, abs=1e-6)
    assert report.passed


@pytest.mark.parametrize("shift", [0.06, math.nan, math.inf])
def test_refuses_above_the_mean_tolerance_and_what_is_no_number(shift: float) -> None:
    groups = [group((2, 4), -1.0)]
    report = parity(groups, replayed(groups, 0.0) + shift, tolerance=0.05)
    with pytest.raises(UserError, match=r"log p of vllm and of replay.*rollout.parity_tolerance"):
        report.require("vllm")


def test_refuses_one_token_far_off() -> None:
    groups = [group((100, 100), -1.0)]
    logp_PGT = replayed(groups, 0.0)
    logp_PGT[0, 0, 50] += 0.51
    report = parity(groups, logp_PGT, tolerance=0.05)
    assert report.mean < 0.05 and not report.passed
    assert parity(groups, logp_PGT, tolerance=0.05, precision="bfloat16").passed


@pytest.mark.parametrize(("far", "passed"), [(2, True), (3, False)])
def test_in_bfloat16_one_token_in_a_hundred_may_be_far_off(far: int, passed: bool) -> None:
    groups = [group((100, 100), -1.0)]
    logp_PGT = replayed(groups, 0.0)
    logp_PGT[0, 0, :far] -= 0.51
    report = parity(groups, logp_PGT, tolerance=0.05, precision="bfloat16")
    assert report.far == pytest.approx(far / 200) and report.passed is passed
    logp_PGT[0, 0, 0] = math.nan
    assert not parity(groups, logp_PGT, tolerance=0.05, precision="bfloat16").passed


def test_nothing_compared_is_no_parity() -> None:
    assert not parity([], torch.zeros(0, 2, 3), tolerance=0.05).passed
