"""Makes a Qwen-VL supervisor's folder (see `saga_ray.models.supervisors._qwen_vl`) of a checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from saga_ray.errors import UserError
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL
from saga_ray.models.supervisors._chat_prompt import ChatPrompt
from saga_ray.models.supervisors._qwen_vl import PREPROCESSOR

FAMILIES = ("qwen2_5_vl", "qwen3_vl")
KEPT = ("*.json", "*.jinja", "*.safetensors", "*.txt")
"""A checkpoint's files that are read: configurations, tokenizer with its merges, weights."""


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Copy a checkpoint as it is. Raises UserError where it is not whole; nothing is left behind then."""
    config = assemble.config_of(checkpoint)
    tokenizer = assemble.tokenizer_of(checkpoint)
    image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
    ChatPrompt(tokenizer, image_token, checkpoint)  # can it be asked?
    for needed, what in ((PREPROCESSOR, PREPROCESSOR), ("*.safetensors", "its weights as safetensors")):
        if not list(checkpoint.glob(needed)):
            raise UserError(f"The checkpoint in {checkpoint} is not complete: {what} must be there.")
    side = config.vision_config.patch_size * config.vision_config.spatial_merge_size
    description = {
        "family": config.model_type,
        "name": output.name,
        "vocabulary": vocabulary,
        "image_size": assemble.image_size(image_size, side),
    }
    with assemble.new_folder(output, description) as folder:
        kept = folder / LANGUAGE_MODEL
        kept.mkdir()
        for pattern in KEPT:
            for file in checkpoint.glob(pattern):
                shutil.copy(file, kept)
        if not (checkpoint / "chat_template.jinja").is_file():
            tokenizer.save_pretrained(kept)  # the template lies in a file that transformers no longer reads
