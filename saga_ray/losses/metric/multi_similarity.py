"""Multi-Similarity (Wang et al., CVPR 2019, arXiv 1904.06627): mine informative pairs, then weigh them.

Both halves of the paper, from pytorch-metric-learning: the miner keeps a negative that is nearer than the
farthest positive (less a margin) and a positive that is farther than the nearest negative (plus the margin);
the loss is a soft maximum over what is left.
"""

from __future__ import annotations

from collections.abc import Mapping

from pytorch_metric_learning.losses import MultiSimilarityLoss
from pytorch_metric_learning.miners import MultiSimilarityMiner
from torch import Tensor

from saga_ray.losses.metric.base import MetricLoss, positive

DEFAULTS: dict[str, float | int] = {
    "alpha": 2.0,  # sharpness of the soft maximum over positives
    "beta": 50.0,  # sharpness of the soft maximum over negatives
    "base": 0.5,  # similarity above which a negative, and below which a positive, counts
    "mining_margin": 0.1,  # the miner's slack: larger keeps more pairs
}


class Loss(MetricLoss):
    """Multi-Similarity over the batch's mined pairs, mean over images; it has no proxies."""

    def __init__(self, settings: Mapping[str, float | int], classes: int, width: int) -> None:
        super().__init__(classes)
        self.loss = MultiSimilarityLoss(
            alpha=positive(settings, "alpha"), beta=positive(settings, "beta"), base=float(settings["base"])
        )
        self.miner = MultiSimilarityMiner(epsilon=float(settings["mining_margin"]))

    def mean_loss(self, z_BE: Tensor, label_B: Tensor) -> Tensor:
        value: Tensor = self.loss(z_BE, label_B, self.miner(z_BE, label_B))
        return value
