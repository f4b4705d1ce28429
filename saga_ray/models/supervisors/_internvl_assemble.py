"""Makes an InternVL supervisor's folder (see `saga_ray.models.supervisors.internvl`) of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saga_ray.errors import UserError
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors import _projected_assemble as projected
from saga_ray.models.supervisors._chat_prompt import ChatPrompt, end_of_answer
from saga_ray.models.supervisors.internvl import FAMILY
from saga_ray.models.towers._squares import architecture
from saga_ray.models.towers.conversion.processor import statistics

LANGUAGE_MODELS = ("llama", "qwen2", "qwen3")
"""Plain decoders, tested; InternVL3.5 has others of experts, one of them with attention sinks."""
MARKS = {"start_image_token": "<img>", "end_image_token": "</img>"}
"""The tokenizer's names of the tokens around a picture, and what they are where it has none."""
PARTS = ("vision_tower", "multi_modal_projector")


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Split a checkpoint of InternVLForConditionalGeneration. Raises UserError where it is not whole, or has
    parts that the family does not know; nothing is left behind then.
    """
    config = assemble.config_of(checkpoint)
    _check(config, checkpoint)
    tokenizer = assemble.tokenizer_of(checkpoint)
    image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
    before, behind = (getattr(tokenizer, name, usual) for name, usual in MARKS.items())
    ChatPrompt(tokenizer, image_token, checkpoint, (before, behind))  # can it be asked?
    merge = round(1 / config.downsample_ratio)
    tower = {
        "vision": architecture(config.vision_config),
        "width": config.text_config.hidden_size,
        "merge": merge,
        "activation": config.projector_hidden_act,
        "image_size": assemble.image_size(image_size, merge * config.vision_config.patch_size[0]),
        **statistics(checkpoint),
    }
    description = {
        "family": FAMILY,
        "name": output.name,
        "image_token": image_token,
        "image_marks": [before, behind],
        "end": end_of_answer(tokenizer),
        "vocabulary": vocabulary,
    }
    projected.of_checkpoint(checkpoint, output, config, tokenizer, description, tower, PARTS)


def _check(config: Any, where: Path) -> None:
    """Refuse what would be read otherwise than the model does."""
    projected.check_language_model(config, LANGUAGE_MODELS, where)
    for name, needed in (("vision_feature_layer", -1), ("vision_feature_select_strategy", "default")):
        found = getattr(config, name)
        if found != needed:
            raise UserError(
                f"{where} has {name} {found!r}; only {needed!r} can be read: the last layer's patches, "
                "without the class token."
            )
    merge = 1 / config.downsample_ratio
    if merge < 1 or not merge.is_integer():
        raise UserError(
            f"{where} has downsample_ratio {config.downsample_ratio}: a token would be no whole number of "
            "patches."
        )
    for name in ("image_size", "patch_size"):
        height, width = getattr(config.vision_config, name)
        if height != width:
            raise UserError(f"The vision model in {where} has {name} {height} x {width}: it must be square.")
