"""The folder of metric losses: what all share, and each against a second computation."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import Tensor
from torch.nn import functional as F

from saga_ray.errors import UserError
from saga_ray.losses import metric

LABEL = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3])  # class 3 has no positive, class 4 no image


def embeddings(images: int = 8, width: int = 6, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(images, width, generator=generator, dtype=torch.float64), dim=1)


def build(name: str, **options: float) -> torch.nn.Module:
    return metric.build(name, classes=5, width=6, seed=0, options=options)


def test_the_folder_holds_the_papers_losses():
    assert {"potential_field", "proxy_anchor", "multi_similarity", "infonce"} <= set(metric.names())


def test_listing_names_loads_no_torch():
    code = "import sys; from saga_ray.losses import metric; metric.names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", metric.names())
def test_every_loss_is_a_finite_scalar_with_a_gradient_for_embeddings_and_proxies(name):
    loss = build(name)
    z = embeddings().float().requires_grad_()
    value = loss(z, LABEL)
    value.backward()
    assert value.shape == () and torch.isfinite(value)
    assert torch.isfinite(z.grad).all() and z.grad.norm() > 0
    for proxies in loss.parameters():
        assert torch.isfinite(proxies.grad).all() and proxies.grad.norm() > 0


@pytest.mark.parametrize("name", metric.names())
@pytest.mark.parametrize("label", [[0] * 8, list(range(5))], ids=["one class", "no positives"])
def test_every_loss_survives_batches_without_positives_or_negatives(name, label):
    loss = build(name)
    z = embeddings(len(label)).float().requires_grad_()
    loss(z, torch.tensor(label)).backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", metric.names())
def test_every_loss_computes_in_full_precision_under_autocast(name):
    loss, z = build(name), embeddings().bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(z, LABEL)
    assert value.dtype == torch.float32
    assert value.item() == loss(z.float(), LABEL).item()
    assert all(proxies.dtype == torch.float32 for proxies in loss.parameters())


@pytest.mark.parametrize("name", metric.names())
def test_every_loss_ignores_the_order_of_the_batch(name):
    loss, z, order = build(name), embeddings(), torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert loss(z, LABEL).item() == pytest.approx(loss(z[order], LABEL[order]).item(), rel=1e-5)


def test_proxies_start_from_the_seed_and_leave_the_global_random_state_alone():
    state = torch.random.get_rng_state()
    first, again, other = (
        next(metric.build("proxy_anchor", classes=4, width=3, seed=seed).parameters()) for seed in (7, 7, 8)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


def test_an_unknown_loss_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'proxy_anchor'"):
        build("proxi_anchor")


def test_an_unknown_option_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="did you mean 'temperature'"):
        build("infonce", temprature=0.1)


@pytest.mark.parametrize(
    "name, option, value",
    [
        ("infonce", "temperature", 0),
        ("proxy_anchor", "alpha", -1),
        ("potential_field", "proxies_per_class", 1.5),
        ("potential_field", "proxies_per_class", 0),
    ],
)
def test_an_option_out_of_range_is_refused(name, option, value):
    with pytest.raises(UserError, match=option):
        build(name, **{option: value})


def test_infonce_equals_a_loop_over_positive_pairs():
    z, terms = embeddings(), []
    for i in range(8):
        negatives = [torch.exp(z[i] @ z[n] / 0.07) for n in range(8) if LABEL[n] != LABEL[i]]
        for j in range(8):
            if j != i and LABEL[j] == LABEL[i]:
                positive = torch.exp(z[i] @ z[j] / 0.07)
                terms.append(-torch.log(positive / (positive + sum(negatives))))
    assert build("infonce")(z, LABEL).item() == pytest.approx(torch.stack(terms).mean().item(), rel=1e-9)


def test_infonce_equals_the_librarys_ntxent_in_value_and_gradient():
    mine, theirs = embeddings(seed=3).requires_grad_(), embeddings(seed=3).requires_grad_()
    value, reference = build("infonce", temperature=0.2)(mine, LABEL), NTXentLoss(0.2)(theirs, LABEL)
    value.backward()
    reference.backward()
    assert value.item() == pytest.approx(reference.item(), rel=1e-6)
    # The library normalises inside, so its gradient lacks the radial part, which the encoder's drops too.
    radial = (mine.grad * mine).sum(dim=1, keepdim=True) * mine
    torch.testing.assert_close(mine.grad - radial.detach(), theirs.grad, rtol=1e-5, atol=1e-8)


def test_proxy_anchor_equals_the_papers_double_sum():
    loss, z = build("proxy_anchor").double(), embeddings()
    proxies = F.normalize(next(loss.parameters()).detach(), dim=1)
    positive, negative, present = 0.0, 0.0, set(LABEL.tolist())
    for c in range(5):
        s = z @ proxies[c]
        if c in present:
            positive += torch.log1p(torch.exp(-32 * (s[c == LABEL] - 0.1)).sum()).item()
        negative += torch.log1p(torch.exp(32 * (s[c != LABEL] + 0.1)).sum()).item()
    expected = positive / len(present) + negative / 5
    assert loss(z, LABEL).item() == pytest.approx(expected, rel=1e-6)


def test_multi_similarity_equals_the_papers_mining_and_soft_maxima():
    z, total = embeddings(), 0.0
    s = z @ z.T
    for i in range(8):
        same = [j for j in range(8) if j != i and LABEL[j] == LABEL[i]]
        other = [j for j in range(8) if LABEL[j] != LABEL[i]]
        if not same:
            continue
        positives = [j for j in same if s[i, j] - 0.1 < max(s[i, n] for n in other)]
        negatives = [n for n in other if s[i, n] + 0.1 > min(s[i, j] for j in same)]
        total += math.log1p(sum(math.exp(-2 * (s[i, j] - 0.5)) for j in positives)) / 2
        total += math.log1p(sum(math.exp(50 * (s[i, n] - 0.5)) for n in negatives)) / 50
    assert build("multi_similarity")(z, LABEL).item() == pytest.approx(total / 8, rel=1e-6)
