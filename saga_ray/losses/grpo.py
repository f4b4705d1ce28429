"""Group-relative policy optimisation of a frozen supervisor's input (SAGA, section 3: GRPO term).

The policy's weights never change: the gradient passes through its log-probabilities into the visual tokens.
Every update is on policy and is followed by new rollouts, so the importance ratio is 1: no ratio, no
clipping, no reference model.

All losses here are **sums**. The caller divides by counts of the whole step, which are known only after its
last pair.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from saga_ray.losses.precision import full_precision


def group_advantages(
    reward_G: Tensor, *, std: Literal["population", "sample", "none"], epsilon: float
) -> Tensor:
    """Advantage (r - mean) / (std + epsilon) of a group's G completions; leading dimensions are groups.

    The paper leaves the deviation open: "population" is the root of the mean squared deviation, "sample"
    divides by G-1 instead of G (the default of `torch.std`), "none" leaves the centred reward (Dr. GRPO,
    arXiv 2503.20783). A group of equal rewards has advantage 0.
    """
    group = reward_G.shape[-1]
    assert group >= 2, f"a group needs two completions or more to be compared, it has {group}"
    centred_G = reward_G - reward_G.mean(dim=-1, keepdim=True)
    if std != "none":
        centred_G = centred_G / (
            reward_G.std(dim=-1, keepdim=True, correction=int(std == "sample")) + epsilon
        )
    # Rounding of the mean, divided by a deviation that should be 0, would be noise of any size.
    uninformative = (reward_G == reward_G[..., :1]).all(dim=-1, keepdim=True)
    return torch.where(uninformative, 0.0, centred_G)


def grpo_loss_sum(logp_GT: Tensor, mask_GT: Tensor, advantage_G: Tensor) -> Tensor:
    """Unscaled GRPO loss of one group: -sum_g sum_t A_g log p(y_gt), over all generated tokens (T length).

    `mask_GT` is True at generated tokens; what `logp_GT` holds elsewhere (even NaN) has no effect. Divide by
    the number of generated tokens |T| over all contributing pairs of the step.
    """
    assert mask_GT.dtype == torch.bool, mask_GT.dtype
    assert logp_GT.shape == mask_GT.shape, (logp_GT.shape, mask_GT.shape)
    logp_G = full_precision(torch.where(mask_GT, logp_GT, 0.0)).sum(dim=-1)
    return -(advantage_G.to(logp_G) * logp_G).sum()


def verdict_cross_entropy_sum(logit_RV: Tensor, target_R: Tensor) -> Tensor:
    """Summed cross entropy of the verdict token alone: the same supervision as GRPO's reward, without GRPO.

    `logit_RV` are the supervisor's logits at the position that predicts the verdict (R rows, V vocabulary),
    `target_R` the token ids of the true verdicts. Divide by the number of rows of the step.
    """
    return F.cross_entropy(full_precision(logit_RV), target_R, reduction="sum")
