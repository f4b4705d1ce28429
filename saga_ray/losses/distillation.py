"""Attention distillation: the pooler looks where the describing supervisor looked (SAGA, section 3).

The teacher is the attention of the supervisor from the tokens that describe an image to that image's patches.
Teacher and tokens are detached, so the loss reaches the pooler's query and key weights alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from saga_ray.losses.precision import full_precision


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
