"""Qwen2.5-VL (arXiv 2502.13923) as a supervisor. Folder, prompt and positions: `_qwen_vl`; the seam at which
tokens leave the vision model: `saga_ray.models.towers.qwen2_5_vl`.
"""

from __future__ import annotations

from pathlib import Path

from transformers import Qwen2_5_VLForConditionalGeneration

from saga_ray.models.supervisors._qwen_vl import QwenVL


class Qwen25VL(QwenVL):
    """The language model reads the merger's tokens in the place of words."""

    family = "qwen2_5_vl"
    architecture = Qwen2_5_VLForConditionalGeneration


def load(folder: Path, precision: str) -> QwenVL:
    """Read a Qwen2.5-VL supervisor from its folder, frozen.

    Raises:
        UserError: the folder is not complete, or holds another architecture.
    """
    return Qwen25VL.load(folder, precision)
