"""Qwen3-VL (arXiv 2511.21631), the paper's supervisor. Folder, prompt and positions: `_qwen_vl`; the seam at
which tokens leave the vision model, DeepStack features included: `saga_ray.models.towers.qwen3_vl`.

A token X of an image is W = (1 + K) x H wide: what stands in the place of a word, and K features that are
added to the hidden states behind the language model's first K layers. So that a prompt is still one tensor,
words are W wide too, with zeros in the place of features.

Legend: B rows, S row length, T words, H width of the language model, K layers with features, W width that is
read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import Qwen3VLForConditionalGeneration

from saga_ray.models.supervisors._qwen_vl import QwenVL


class Qwen3VL(QwenVL):
    """See the module."""

    family = "qwen3_vl"
    architecture = Qwen3VLForConditionalGeneration

    def answer_embeddings(self, tokens_BT: Tensor) -> Tensor:
        """Words as the language model reads them: e_BTW, zeros behind the first H."""
        words_BTH = super().answer_embeddings(tokens_BT)
        return functional.pad(words_BTH, (0, self.token_width - self.hidden_size))

    def hidden_states(self, embeddings_BSH: Tensor, positions: Tensor, **attention: Any) -> Tensor:
        """See `Supervisor`; the embeddings are W wide, and their features are added behind the first K
        layers, at words as zeros."""
        e_BSH, *features_KBSH = torch.split(embeddings_BSH, self.hidden_size, dim=-1)
        everywhere_BS = torch.ones(e_BSH.shape[:2], dtype=torch.bool, device=e_BSH.device)
        return super().hidden_states(
            e_BSH,
            positions,
            visual_pos_masks=everywhere_BS,
            deepstack_visual_embeds=[features_BSH.flatten(0, 1) for features_BSH in features_KBSH],
            **attention,
        )


def load(folder: Path, precision: str) -> QwenVL:
    """Read a Qwen3-VL supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete, or holds another architecture.
    """
    return Qwen3VL.load(folder, precision)
