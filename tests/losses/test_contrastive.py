"""The losses of composed retrieval against loops that follow the formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from saga_ray.losses.contrastive import alignment, instruction

T = 0.05


def rows(count: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 6, generator=generator, dtype=torch.float64), dim=-1)


def naive(query: Tensor, rights: Tensor, wrongs: Tensor, same: Tensor | None = None) -> float:
    """Mean of -log p(right), one similarity at a time."""
    total = 0.0
    for i in range(len(query)):
        among = [
            float(query[i] @ rights[j]) / T
            for j in range(len(rights))
            if i == j or same is None or not same[i, j]
        ]
        among += [float(query[i] @ wrong) / T for wrong in wrongs]
        total -= float(query[i] @ rights[i]) / T - math.log(sum(math.exp(each) for each in among))
    return total / len(query)


@given(count=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_stage_1_is_infonce(count: int, seed: int) -> None:
    image, caption, none = rows(count, seed), rows(count, seed + 100), rows(0, 0)
    one = naive(image, caption, none)
    assert float(alignment(image, caption, T, two_sided=False)) == pytest.approx(one)
    both = (one + naive(caption, image, none)) / 2
    assert float(alignment(image, caption, T, two_sided=True)) == pytest.approx(both)


@given(count=st.integers(1, 7), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_stage_2_has_all_original_captions_as_negatives(count: int, seed: int) -> None:
    query, target, original = rows(count, seed), rows(count, seed + 100), rows(count, seed + 200)
    assert float(instruction(query, target, original, T)) == pytest.approx(naive(query, target, original))


def test_what_says_the_same_is_no_negative() -> None:
    query, target, original = rows(4, 1), rows(4, 2), rows(4, 3)
    same = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]], dtype=torch.bool)
    expected = naive(query, target, original, same)
    assert float(instruction(query, target, original, T, same)) == pytest.approx(expected)
    none = rows(0, 0)
    expected = (naive(query, target, none, same) + naive(target, query, none, same.T)) / 2
    assert float(alignment(query, target, T, two_sided=True, same_BB=same)) == pytest.approx(expected)


def test_an_embedder_that_ignores_the_instruction_pays() -> None:
    target, original = rows(5, 2), rows(5, 3)
    assert instruction(original, target, original, T) > instruction(target, target, original, T)
