"""A batch in chunks has the gradient of the batch as a whole."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saga_ray.composed.gradient_cache import cached_backward
from saga_ray.losses.contrastive import alignment


def model(dropout: float) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.GELU(), nn.Dropout(dropout), nn.Linear(8, 4)).double()


def loss_of(z_BE: Tensor) -> Tensor:
    images_BE, captions_BE = z_BE.chunk(2)
    return alignment(images_BE, captions_BE, 0.05, two_sided=True)


@pytest.mark.parametrize("sizes", [[12], [5, 7], [1] * 12])
def test_chunks_have_the_plain_gradient(sizes: list[int]) -> None:
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, cached = model(0.0), model(0.0)
    whole = loss_of(F.normalize(plain(x), dim=-1))
    whole.backward()
    loss = cached_backward(lambda chunk: F.normalize(cached(chunk), dim=-1), x.split(sizes), loss_of)
    assert torch.equal(loss, whole.detach()) or torch.allclose(loss, whole.detach(), rtol=1e-12)
    for one, other in zip(plain.parameters(), cached.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_the_second_pass_drops_out_what_the_first_did() -> None:
    x = torch.randn(12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    plain, cached = model(0.5), model(0.5)
    torch.manual_seed(7)
    whole = loss_of(torch.cat([F.normalize(plain(part), dim=-1) for part in x.split(4)]))
    whole.backward()
    after = torch.rand(1)
    torch.manual_seed(7)
    cached_backward(lambda chunk: F.normalize(cached(chunk), dim=-1), x.split(4), loss_of)
    assert torch.equal(torch.rand(1), after)
    for one, other in zip(plain.parameters(), cached.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-12)


def test_gradients_are_added() -> None:
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    twice, once = model(0.0), model(0.0)
    for _ in range(2):
        cached_backward(lambda chunk: F.normalize(twice(chunk), dim=-1), x.split(3), loss_of)
    cached_backward(lambda chunk: F.normalize(once(chunk), dim=-1), x.split(3), loss_of)
    for one, other in zip(twice.parameters(), once.parameters(), strict=True):
        assert torch.allclose(one.grad, 2 * other.grad)
