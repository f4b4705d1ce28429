"""Attention distillation: the pooler looks where the describing supervisor looked (SAGA, section 3).

The teacher is the attention of the supervisor from the tokens that describe an image to that image's patches.
Teacher and tokens are detached, so the loss reaches the pooler's query and key weights alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saga_ray.losses.precision import full_precision


def teacher_attention(attention_RTS: Tensor, query_mask_RT: Tensor, patches: slice) -> Tensor:
    """Distribution over one image's N patches for each of R rollouts: teacher_RN, detached.

    `attention_RTS` is one layer's attention from T answer tokens to S source tokens, heads already averaged;
    `query_mask_RT` is True at the answer tokens that describe this image; `patches` are the image's positions
    in S. Attention is averaged over the describing tokens and renormalised over the patches.

    A rollout without describing tokens has a row of zeros: it adds nothing to `attention_kl_sum`. Count only
    the rows where `query_mask_RT.any(-1)`.
    """
    assert query_mask_RT.dtype == torch.bool, query_mask_RT.dtype
    on_patches_RTN = full_precision(attention_RTS[..., patches].detach())
    weight_RT = query_mask_RT.to(on_patches_RTN) / query_mask_RT.sum(dim=-1, keepdim=True).clamp(min=1)
    # Not a matrix product: padding may hold NaN, and 0 * NaN is NaN.
    mean_RN = torch.where(query_mask_RT[..., None], on_patches_RTN * weight_RT[..., None], 0.0).sum(dim=-2)
    mass_R1 = mean_RN.sum(dim=-1, keepdim=True)
    return torch.where(mass_R1 > 0, mean_RN / mass_R1.clamp(min=torch.finfo(mass_R1.dtype).tiny), 0.0)


def attention_kl_sum(teacher_RN: Tensor, student: Tensor, *, epsilon: float = 1e-12) -> Tensor:
    """Sum over R rollouts of KL(teacher || student) over the N patches of one image.

    `student` is the pooler's attention over that image: N values for all rollouts, or one row a rollout. The
    paper does not say whether rollouts are summed or averaged: the caller divides. `epsilon` keeps
    log(student) and its gradient finite where the student's softmax has underflowed to 0; a patch that the
    teacher gives nothing costs nothing.
    """
    teacher_RN = full_precision(teacher_RN.detach())
    student_RN = full_precision(student).expand_as(teacher_RN)
    return (torch.xlogy(teacher_RN, teacher_RN) - teacher_RN * (student_RN + epsilon).log()).sum()
