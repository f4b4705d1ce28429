"""The pooler's start, its formula, and where its gradients go."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from saga_ray.models.pooler import Pooler

B, N, D = 5, 7, 12


@pytest.fixture
def x_BND() -> torch.Tensor:
    return torch.randn(B, N, D, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_it_starts_as_mean_pooling(x_BND: torch.Tensor, pooling: str) -> None:
    z_BE, beta_BN = Pooler(D, None, pooling)(x_BND)  # type: ignore[arg-type]
    torch.testing.assert_close(z_BE, functional.normalize(x_BND.mean(1), dim=-1))
    assert torch.equal(beta_BN, torch.full((B, N), 1 / N))


def test_a_narrower_embedding_starts_as_a_fixed_orthogonal_projection(x_BND: torch.Tensor) -> None:
    torch.manual_seed(1)
    pooler = Pooler(D, 4)
    torch.manual_seed(2)
    again = Pooler(D, 4)
    weight_ED = pooler.linear.weight
    torch.testing.assert_close(weight_ED @ weight_ED.T, torch.eye(4), atol=1e-6, rtol=0)
    assert torch.equal(weight_ED, again.linear.weight)
    torch.testing.assert_close(pooler(x_BND)[0], functional.normalize(x_BND.mean(1) @ weight_ED.T, dim=-1))


def test_a_wider_embedding_starts_with_the_same_distances(x_BND: torch.Tensor) -> None:
    z_BE, start_BE = Pooler(D, 20)(x_BND)[0], Pooler(D)(x_BND)[0]
    assert z_BE.shape == (B, 20)
    torch.testing.assert_close(z_BE @ z_BE.T, start_BE @ start_BE.T, atol=1e-5, rtol=0)


def test_attention_is_the_paper_s_formula(x_BND: torch.Tensor) -> None:
    torch.manual_seed(3)
    pooler = Pooler(D, 6)
    torch.nn.init.normal_(pooler.query, std=2.0)
    torch.nn.init.normal_(pooler.key)
    pooler.requires_grad_(False)
    z_BE, beta_BN = pooler(x_BND)
    for b in range(B):
        scores = [float(pooler.query @ pooler.key @ x_BND[b, n]) / math.sqrt(D) for n in range(N)]
        shares = [math.exp(score) / sum(math.exp(other) for other in scores) for score in scores]
        torch.testing.assert_close(beta_BN[b], torch.tensor(shares))
        pooled_D = sum(share * x_BND[b, n] for n, share in enumerate(shares))
        z_E = pooler.linear.weight @ pooled_D
        torch.testing.assert_close(z_BE[b], z_E / z_E.norm(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(pooler.attention(x_BND), beta_BN)
    assert beta_BN.std() > 0.05


def test_the_query_can_leave_its_start(x_BND: torch.Tensor) -> None:
    pooler = Pooler(D)
    pooler(x_BND)[0][:, 0].sum().backward()
    assert pooler.query.grad is not None and pooler.query.grad.abs().max() > 1e-3
    assert pooler.linear.weight.grad is not None and pooler.linear.weight.grad.abs().max() > 1e-3


def test_attention_s_gradient_reaches_query_and_key_alone(x_BND: torch.Tensor) -> None:
    pooler = Pooler(D)
    torch.nn.init.normal_(pooler.query)
    pooler.attention(x_BND.detach())[:, 0].log().sum().backward()
    reached = {name for name, parameter in pooler.named_parameters() if parameter.grad is not None}
    assert reached == {"query", "key"}


def test_mean_pooling_trains_the_linear_map_alone() -> None:
    assert [name for name, _ in Pooler(D, None, "mean").named_parameters()] == ["linear.weight"]
