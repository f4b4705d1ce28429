"""Makes an Idefics3 supervisor's folder (see `saga_ray.models.supervisors.idefics3`) of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors import _projected_assemble as projected
from saga_ray.models.supervisors._chat_prompt import ChatPrompt, end_of_answer
from saga_ray.models.supervisors.idefics3 import FAMILY
from saga_ray.models.towers._squares import architecture
from saga_ray.models.towers.conversion.processor import statistics

KINDS = ("idefics3", "smolvlm")
"""Types of checkpoints: their models compute the same."""
LANGUAGE_MODELS = ("llama",)
MARKS = ("<fake_token_around_image><global-img>", "<fake_token_around_image>")
"""Around a picture that is not split."""
PARTS = ("vision_model", "connector")


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Split a checkpoint of Idefics3ForConditionalGeneration or SmolVLMForConditionalGeneration. Raises
    UserError where it is not whole, or has parts that the family does not know; nothing is left behind then.
    """
    config = assemble.config_of(checkpoint)
    projected.check_language_model(config, LANGUAGE_MODELS, checkpoint)
    tokenizer = assemble.tokenizer_of(checkpoint)
    image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
    ChatPrompt(tokenizer, image_token, checkpoint, MARKS)  # can it be asked?
    tower = {
        "vision": architecture(config.vision_config),
        "width": config.text_config.hidden_size,
        "merge": config.scale_factor,
        "image_size": assemble.image_size(image_size, config.scale_factor * config.vision_config.patch_size),
        **statistics(checkpoint),
    }
    description = {
        "family": FAMILY,
        "name": output.name,
        "image_token": image_token,
        "image_marks": MARKS,
        "end": end_of_answer(tokenizer),
        "vocabulary": vocabulary,
    }
    projected.of_checkpoint(checkpoint, output, config, tokenizer, description, tower, PARTS)
