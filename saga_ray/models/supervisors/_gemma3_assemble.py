"""Makes a Gemma 3 supervisor's folder (see `saga_ray.models.supervisors.gemma3`) of a checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from saga_ray.errors import UserError
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors import _projected_assemble as projected
from saga_ray.models.supervisors._chat_prompt import ChatPrompt, end_of_answer
from saga_ray.models.supervisors.gemma3 import FAMILY
from saga_ray.models.towers._squares import architecture
from saga_ray.models.towers.conversion.processor import statistics

LANGUAGE_MODELS = ("gemma3_text",)
ABSENT = ("attn_logit_softcapping", "final_logit_softcapping", "use_bidirectional_attention")
"""Of the language model's options, those that no released model has and that would change what it says."""
PARTS = ("vision_tower", "multi_modal_projector")


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Split a checkpoint of Gemma3ForConditionalGeneration. Raises UserError where it is not whole, or has
    parts that the family does not know; nothing is left behind then.
    """
    config = assemble.config_of(checkpoint)
    merge = _merge(config, checkpoint)
    tokenizer = assemble.tokenizer_of(checkpoint)
    ids = config.image_token_id, config.boi_token_id, config.eoi_token_id
    image_token, start, end = (str(tokenizer.convert_ids_to_tokens(each)) for each in ids)
    marks = (f"\n\n{start}", f"{end}\n\n")
    ChatPrompt(tokenizer, image_token, checkpoint, marks, start)  # can it be asked?
    tower = {
        "vision": architecture(config.vision_config),
        "width": config.text_config.hidden_size,
        "merge": merge,
        "image_size": assemble.image_size(image_size, merge * config.vision_config.patch_size),
        **statistics(checkpoint),
    }
    description = {
        "family": FAMILY,
        "name": output.name,
        "image_token": image_token,
        "image_marks": marks,
        "template_token": start,
        "end": end_of_answer(tokenizer),
        "vocabulary": vocabulary,
    }
    projected.of_checkpoint(checkpoint, output, config, tokenizer, description, tower, PARTS)


def _merge(config: Any, where: Path) -> int:
    """Patches along a token's side. Refuses what would be read otherwise than the model does."""
    projected.check_language_model(config, LANGUAGE_MODELS, where)
    for name in ABSENT:
        if getattr(config.text_config, name):
            raise UserError(
                f"The language model in {where} has {name}={getattr(config.text_config, name)}, which replay "
                "does not know: choose a released Gemma 3."
            )
    vision, tokens = config.vision_config, config.mm_tokens_per_image
    patches, side = vision.image_size // vision.patch_size, math.isqrt(tokens)
    if side**2 != tokens or patches % side:
        raise UserError(
            f"{where} has {tokens} tokens for {patches} x {patches} patches: a token would be no square of "
            "them."
        )
    return int(patches // side)
