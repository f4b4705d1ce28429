"""Takes a checkpoint's parts apart: what the folders of `saga_ray.models.supervisors._split` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from saga_ray.models import towers
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors._chat import LANGUAGE_MODEL
from saga_ray.models.supervisors._split import drop_idle_window


def language_model_of(whole: Any) -> PreTrainedModel:
    """The language model with its head of a whole multimodal one, as a model of its own."""
    causal: Any = AutoModelForCausalLM
    with torch.device("meta"):  # its parts are put in
        language_model: Any = causal.from_config(whole.config.text_config, dtype=whole.dtype)
    setattr(language_model, language_model.base_model_prefix, whole.get_decoder())
    language_model.set_output_embeddings(whole.lm_head)
    language_model.generation_config = whole.generation_config
    # the whole model's configuration may say other than its text's
    language_model.config.tie_word_embeddings = whole.lm_head.weight is whole.get_input_embeddings().weight
    made: PreTrainedModel = language_model
    return made


def write(
    output: Path,
    description: Mapping[str, Any],
    tower: towers.Tower,
    tower_dtype: torch.dtype,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    files: Mapping[str, bytes],
) -> None:
    """Write a supervisor's folder, whole or not at all; `files` are the family's own."""
    drop_idle_window(language_model.config)
    with assemble.new_folder(output, description) as folder:
        towers.save(tower, folder / "tower", tower_dtype)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        language_model.save_pretrained(folder / LANGUAGE_MODEL)
        tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
