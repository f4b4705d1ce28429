"""The optimizer and its rates: AdamW with a rate for each part, linear warm-up, then cosine to zero."""

from __future__ import annotations

import math

import torch
from torch import nn

from saga_ray.config.settings import OptimizerSettings
from saga_ray.models.encoder import Encoder


def rate_factor(progress: float, warmup_share: float) -> float:
    """Factor of the learning rates at ``progress`` in [0, 1) of the run: rises linearly over
    ``warmup_share``, then half a cosine.
    """
    if progress < warmup_share:
        return progress / warmup_share
    if warmup_share >= 1.0:
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (progress - warmup_share) / (1.0 - warmup_share))))


def step_progress(step: int, steps: int) -> float:
    """Progress of a step: at the middle of its own share of the run, so that neither the first nor the last
    step has rate 0.
    """
    return (step + 0.5) / steps


def build_optimizer(
    encoder: Encoder, metric_loss: nn.Module, settings: OptimizerSettings
) -> torch.optim.AdamW:
    """AdamW over tower, pooler and proxies; biases, norms and the pooler's query are not decayed."""
    groups = []
    for module, rate in (
        (encoder.tower, settings.tower_rate),
        (encoder.pooler, settings.pooler_rate),
        (metric_loss, settings.proxy_rate),
    ):
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        decayed = [parameter for parameter in parameters if parameter.ndim > 1 and module is not metric_loss]
        plain = [parameter for parameter in parameters if not any(parameter is other for other in decayed)]
        groups.append({"params": decayed, "lr": rate, "base": rate, "weight_decay": settings.weight_decay})
        groups.append({"params": plain, "lr": rate, "base": rate, "weight_decay": 0.0})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]], betas=(settings.beta1, settings.beta2)
    )


def set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Put every group at ``factor`` times its base rate."""
    for group in optimizer.param_groups:
        group["lr"] = group["base"] * factor
