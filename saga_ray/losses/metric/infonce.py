"""InfoNCE with labels: every same-class image of the batch is a positive, every other one a negative.

This is the pair-wise form (NT-Xent with labels): each positive pair (i, j) is one classification of j against
i's negatives,

    l_ij = -log( e^{s_ij/t} / (e^{s_ij/t} + sum_{n: y_n != y_i} e^{s_in/t}) ),

with cosine similarity s and temperature t, and the loss is the mean over positive pairs. Other positives stay
out of the denominator, so that positives do not compete with one another as they do in SupCon.
pytorch-metric-learning's `NTXentLoss` has the same value but holds a matrix of positive pairs times negative
pairs; since l_ij = softplus(logsumexp_n(s_in/t) - s_ij/t), a matrix of images times images is enough.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from saga_ray.losses.metric.base import MetricLoss, positive

DEFAULTS: dict[str, float | int] = {
    "temperature": 0.07,  # t: divides the cosine similarities; smaller looks at the hardest negatives only
}


def infonce(z_BE: Tensor, label_B: Tensor, temperature: float) -> Tensor:
    """Mean over positive pairs; 0 (and its gradient) where the batch has no positive or no negative pair."""
    logit_BB = z_BE @ z_BE.T / temperature
    same_BB = label_B[:, None] == label_B[None, :]
    is_positive_BB = same_BB & ~torch.eye(len(label_B), dtype=torch.bool, device=label_B.device)
    if same_BB.all() or not is_positive_BB.any():
        return z_BE.sum() * 0.0
    negatives_B = logit_BB.masked_fill(same_BB, float("-inf")).logsumexp(dim=1)
    return F.softplus(negatives_B[:, None] - logit_BB)[is_positive_BB].mean()


class Loss(MetricLoss):
    """InfoNCE over the batch; it has no proxies."""

    def __init__(self, settings: Mapping[str, float | int], classes: int, width: int) -> None:
        super().__init__(classes)
        self.temperature = positive(settings, "temperature")

    def mean_loss(self, z_BE: Tensor, label_B: Tensor) -> Tensor:
        return infonce(z_BE, label_B, self.temperature)
