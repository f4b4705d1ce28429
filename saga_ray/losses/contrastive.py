"""The contrastive losses of composed retrieval's two stages (InstructCIR, arXiv 2412.05756).

Embeddings are L2-normalised; similarities are cosines, divided by the temperature t.

Legend: B queries with their targets, E embedding size.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def alignment(
    z_image_BE: Tensor,
    z_caption_BE: Tensor,
    temperature: float,
    *,
    two_sided: bool,
    same_BB: Tensor | None = None,
) -> Tensor:
    """Stage 1: each image finds its caption among the batch's (InfoNCE), and with `two_sided` each caption
    its image, the mean of both.

    `same_BB`: True where caption j says the same as caption i; such a caption is no negative.
    """
    logit_BB = _without(z_image_BE @ z_caption_BE.T / temperature, same_BB)
    target_B = torch.arange(len(logit_BB), device=logit_BB.device)
    loss = F.cross_entropy(logit_BB, target_B)
    if two_sided:
        logit_BB = _without(z_caption_BE @ z_image_BE.T / temperature, None if same_BB is None else same_BB.T)
        loss = (loss + F.cross_entropy(logit_BB, target_B)) / 2
    return loss


def instruction(
    z_composed_BE: Tensor,
    z_target_BE: Tensor,
    z_original_BE: Tensor,
    temperature: float,
    same_target_BB: Tensor | None = None,
    same_original_BB: Tensor | None = None,
) -> Tensor:
    """Stage 2: each composed query finds its target (modified caption, or target image) among the batch's
    targets and the batch's originals (captions, or reference images), all of which are negatives: logits of
    shape B x 2B, the first block's diagonal is right. An embedder that ignores the instruction finds the
    original.

    `same_target_BB`, `same_original_BB`: True where target j, or original j, answers query i too; that one is
    no negative.
    """
    logit_BB = z_composed_BE @ z_target_BE.T / temperature
    targets_BB = _without(logit_BB, same_target_BB)
    originals_BB = z_composed_BE @ z_original_BE.T / temperature
    if same_original_BB is not None:
        originals_BB = originals_BB.masked_fill(same_original_BB, float("-inf"))
    right_B = torch.arange(len(targets_BB), device=targets_BB.device)
    return F.cross_entropy(torch.cat([targets_BB, originals_BB], dim=1), right_B)


def _without(logit_BB: Tensor, same_BB: Tensor | None) -> Tensor:
    """Logits with what is as right as the diagonal left out."""
    if same_BB is None:
        return logit_BB
    other_BB = same_BB & ~torch.eye(len(same_BB), dtype=torch.bool, device=same_BB.device)
    return logit_BB.masked_fill(other_BB, float("-inf"))
