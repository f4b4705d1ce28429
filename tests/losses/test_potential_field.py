"""Potential Field against the paper's double sum, and at the distances where it could break."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from saga_ray.errors import UserError
from saga_ray.losses import metric
from saga_ray.losses.metric.potential_field import field_energy, pair_potential


def paper_energy(point_PE: Tensor, label_P: Tensor, delta: float, alpha: float) -> tuple[float, int]:
    """Eq. 1, 2 and 6 of the paper, point by point; and how many ordered pairs are of different classes."""
    energy, different = 0.0, 0
    for i, here in enumerate(point_PE):
        for j, source in enumerate(point_PE):
            if i == j:
                continue
            d = math.dist(here.tolist(), source.tolist())
            if label_P[i] == label_P[j]:
                energy += -1 / delta**alpha if d < delta else -1 / d**alpha
            else:
                energy += 1 / d**alpha if d < delta else 1 / delta**alpha
                different += 1
    return energy, different


def crowded(points: int, width: int, spread: float, seed: int) -> Tensor:
    """Points of the sphere, about `spread` around one of them: distances on both sides of the radius."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(points, width, generator=generator, dtype=torch.float64) * spread
    noise[:, 0] += 1
    return F.normalize(noise, dim=1)


@pytest.mark.parametrize("delta, alpha", [(0.2, 4.0), (0.3, 1.0), (0.1, 6.0)])
def test_the_loss_is_the_papers_energy_an_image_less_the_constant_of_far_pairs(delta, alpha):
    options = {"delta": delta, "alpha": alpha, "proxies_per_class": 2, "floor": 1e-6}
    loss = metric.build("potential_field", classes=3, width=5, seed=0, options=options).double()
    proxies = crowded(6, 5, delta / 2, seed=1)
    loss.proxy_PE.data = proxies * 3  # their length must not matter
    images, label = crowded(7, 5, delta / 2, seed=2), torch.tensor([0, 0, 1, 1, 2, 2, 2])
    points, point_label = torch.cat([images, proxies]), torch.cat([label, torch.tensor([0, 0, 1, 1, 2, 2])])
    distances = torch.cdist(points, points)
    assert (distances > delta).any() and ((distances < delta) & (distances > 0)).any()

    energy, different = paper_energy(points, point_label, delta, alpha)
    expected = (energy - different / delta**alpha) / len(images)
    assert loss(images, label).item() == pytest.approx(expected, rel=1e-9)


def test_without_proxy_pairs_the_proxies_energy_among_themselves_is_left_out():
    images, proxies = crowded(4, 5, 0.1, seed=3), crowded(4, 5, 0.1, seed=4)
    label, proxy_label = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 1, 1])
    field = {"delta": 0.2, "alpha": 4.0, "floor": 1e-6}
    whole = field_energy(images, label, proxies, proxy_label, proxy_pairs=True, **field)
    without = field_energy(images, label, proxies, proxy_label, proxy_pairs=False, **field)
    energy, different = paper_energy(proxies, proxy_label, 0.2, 4.0)
    assert (whole - without).item() == pytest.approx(energy - different / 0.2**4, rel=1e-9)


def test_mean_over_points_divides_by_the_points_that_an_image_meets():
    images, label = crowded(6, 5, 0.3, seed=5), torch.tensor([0, 0, 1, 1, 2, 2])
    values = [
        metric.build(
            "potential_field",
            classes=3,
            width=5,
            seed=0,
            options={"proxies_per_class": 4, "mean_over_points": on},
        )(images, label).item()
        for on in (0, 1)
    ]
    assert values[1] == pytest.approx(values[0] / (5 + 12))


def test_gradients_are_those_of_finite_differences():
    proxies = (crowded(4, 4, 0.15, seed=6)).requires_grad_()
    images = (crowded(5, 4, 0.15, seed=7)).requires_grad_()
    label, proxy_label = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 0, 1, 1])

    def energy(z: Tensor, p: Tensor) -> Tensor:
        z, p = F.normalize(z, dim=1), F.normalize(p, dim=1)
        return field_energy(z, label, p, proxy_label, delta=0.25, alpha=3.0, floor=0.01, proxy_pairs=True)

    assert torch.autograd.gradcheck(energy, (images, proxies))


def test_points_that_coincide_give_a_finite_loss_and_gradient():
    loss = metric.build("potential_field", classes=2, width=4, seed=0, options={"alpha": 6, "delta": 0.1})
    point = F.normalize(torch.ones(1, 4), dim=1)
    loss.proxy_PE.data = point.repeat(30, 1)
    z = point.repeat(6, 1).requires_grad_()
    value = loss(z, torch.tensor([0, 0, 0, 1, 1, 1]))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z.grad).all() and torch.isfinite(loss.proxy_PE.grad).all()


def test_same_class_is_pulled_outside_the_radius_only_and_other_classes_pushed_inside_it_only():
    d = torch.tensor([0.05, 0.15, 0.25, 1.0], dtype=torch.float64, requires_grad=True)
    for same, sign in ((True, torch.tensor([0, 0, 1, 1])), (False, torch.tensor([-1, -1, 0, 0]))):
        potential = pair_potential(d**2, torch.tensor(same), delta=0.2, alpha=4.0, floor=0.01)
        (slope,) = torch.autograd.grad(potential.sum(), d)
        assert torch.equal(slope.sign().long(), sign)


def test_far_pairs_of_different_classes_add_exactly_nothing_in_single_precision():
    d2 = torch.linspace(0.011, 4, 1000)
    potential = pair_potential(d2, torch.tensor(False), delta=0.1, alpha=6.0, floor=0.01)
    assert torch.equal(potential, torch.zeros(1000))


def test_training_brings_classes_together():
    options = {"proxies_per_class": 2, "delta": 0.3, "alpha": 2}
    loss = metric.build("potential_field", classes=3, width=8, seed=0, options=options)
    label = torch.arange(3).repeat_interleave(4)
    free = torch.randn(12, 8, generator=torch.Generator().manual_seed(5)).requires_grad_()
    optimizer = torch.optim.Adam([free, *loss.parameters()], lr=0.02)

    def gap() -> float:
        d = torch.cdist(F.normalize(free, dim=1), F.normalize(free, dim=1))
        same = label[:, None] == label[None, :]
        return (d[~same].mean() - d[same & ~torch.eye(12, dtype=torch.bool)].mean()).item()

    assert gap() < 0.2
    for _ in range(100):
        optimizer.zero_grad()
        loss(F.normalize(free, dim=1), label).backward()
        optimizer.step()
    assert gap() > 0.6


def test_a_floor_that_is_not_below_the_radius_is_refused():
    with pytest.raises(UserError, match="floor"):
        metric.build("potential_field", classes=2, width=4, seed=0, options={"floor": 0.3})
