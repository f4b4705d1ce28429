"""Potential Field (Bhatnagar and Ahuja, CVPR 2025, arXiv 2405.18560): charges whose pull fades.

Points are the batch's embeddings and all proxies, on the unit sphere, at distance d from each other (section
3.2.1, eq. 1-2):

    same class       -1/max(d, delta)^alpha     pulls, harder as the two come near; not inside delta
    different class   1/min(d, delta)^alpha     pushes inside delta; not outside

The energy is the sum over all ordered pairs of distinct points (eq. 6): image-image, image-proxy,
proxy-proxy.

What the paper leaves open, and what is done here:
- *Constant*: the different-class potential is counted from its far value 1/delta^alpha, so that a pair out of
  reach adds 0. The gradient is the same; without it 10^9 of constant hides the loss's digits in float32
  (alpha 6, delta 0.1, 1,500 proxies).
- *Scale*: the sum is divided by the number of images, the energy an image. `mean_over_points` 1 divides by
  the number of points that an image meets as well, which makes the value independent of the number of proxies
  and rather small.
- *Singularity*: the push grows without bound as two classes' points meet. Below `floor` it is constant, hence
  without gradient; at distance 0 it would have no direction anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from saga_ray.errors import UserError
from saga_ray.losses.metric.base import MetricLoss, count, positive

DEFAULTS: dict[str, float | int] = {
    "delta": 0.2,  # radius; the paper searches 0.1 to 0.3 (points of the unit sphere are at most 2 apart)
    "alpha": 4.0,  # how fast the field fades; the paper searches up to 6, its best are 3 and above
    "proxies_per_class": 15,  # the paper's for CUB and Cars; 2 for SOP
    "proxy_pairs": 1,  # 1: proxies act on one another (eq. 6), in memory proxies x proxies; 0: not
    "mean_over_points": 0,  # 0: energy an image; 1: divided by the number of points as well
    "floor": 0.01,  # distance below which the push between classes stops growing
}


def pair_potential(d2: Tensor, same: Tensor, *, delta: float, alpha: float, floor: float) -> Tensor:
    """Potential of pairs at squared distance d2, `same` where both are of one class; always finite."""
    # In units of the radius and of its potential, a pair out of reach adds exactly 0, whatever the rounding.
    ratio = d2 / delta**2
    acting = torch.where(same, ratio.clamp(min=1), ratio.clamp(min=(floor / delta) ** 2, max=1))
    strength = acting.pow(-alpha / 2)
    unit: float = delta**-alpha
    return torch.where(same, -strength, strength - 1) * unit


def field_energy(
    z_BE: Tensor,
    label_B: Tensor,
    proxy_PE: Tensor,
    proxy_label_P: Tensor,
    *,
    delta: float,
    alpha: float,
    floor: float,
    proxy_pairs: bool,
) -> Tensor:
    """Sum of the potential over all ordered pairs of distinct points (B images, P proxies, E embedding).

    `z_BE` and `proxy_PE` are L2-normalised. `proxy_pairs` says whether pairs of two proxies are in the sum.
    """

    def energy(a_AE: Tensor, a_label_A: Tensor, b_BE: Tensor, b_label_B: Tensor) -> Tensor:
        d2_AB = 2 - 2 * a_AE @ b_BE.T
        same_AB = a_label_A[:, None] == b_label_B[None, :]
        return pair_potential(d2_AB, same_AB, delta=delta, alpha=alpha, floor=floor)

    def among(a_AE: Tensor, a_label_A: Tensor) -> Tensor:
        return 2 * energy(a_AE, a_label_A, a_AE, a_label_A).triu(diagonal=1).sum()

    # An image in a proxy's field and the proxy in the image's are two ordered pairs of one value.
    total = among(z_BE, label_B) + 2 * energy(z_BE, label_B, proxy_PE, proxy_label_P).sum()
    return total + among(proxy_PE, proxy_label_P) if proxy_pairs else total


class Loss(MetricLoss):
    """Potential Field with `proxies_per_class` proxies a class; normalised where they are used."""

    proxy_label_P: Tensor

    def __init__(self, settings: Mapping[str, float | int], classes: int, width: int) -> None:
        super().__init__(classes)
        self.delta, self.alpha, self.floor = (
            positive(settings, option) for option in ("delta", "alpha", "floor")
        )
        if self.floor >= self.delta:
            raise UserError(
                f"metric loss option 'floor' is {self.floor:g}, not below 'delta' ({self.delta:g}); lower it"
            )
        per_class = count(settings, "proxies_per_class")
        self.proxy_pairs = bool(settings["proxy_pairs"])
        self.mean_over_points = bool(settings["mean_over_points"])
        self.proxy_PE = nn.Parameter(F.normalize(torch.randn(classes * per_class, width), dim=1))
        self.register_buffer(
            "proxy_label_P", torch.arange(classes).repeat_interleave(per_class), persistent=False
        )

    def mean_loss(self, z_BE: Tensor, label_B: Tensor) -> Tensor:
        energy = field_energy(
            z_BE,
            label_B,
            F.normalize(self.proxy_PE, dim=1),
            self.proxy_label_P,
            delta=self.delta,
            alpha=self.alpha,
            floor=self.floor,
            proxy_pairs=self.proxy_pairs,
        )
        points = len(z_BE) - 1 + len(self.proxy_PE)
        return energy / (len(z_BE) * (points if self.mean_over_points else 1))
