"""Makes an InternVL supervisor's folder (see `saga_ray.models.supervisors.internvl`) of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import InternVLForConditionalGeneration

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors import _split_assemble as split
from saga_ray.models.supervisors._chat_prompt import ChatPrompt, end_of_answer
from saga_ray.models.supervisors._split import widen_window
from saga_ray.models.supervisors.internvl import FAMILY
from saga_ray.models.towers._squares import architecture
from saga_ray.models.towers.conversion.processor import statistics

LANGUAGE_MODELS = ("llama", "qwen2", "qwen3")
"""Plain decoders, tested; InternVL3.5 has others of experts, one of them with attention sinks."""
MARKS = {"start_image_token": "<img>", "end_image_token": "</img>"}
"""The tokenizer's names of the tokens around a picture, and what they are where it has none."""


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None, image_size: int | None) -> None:
    """Split a checkpoint of InternVLForConditionalGeneration. Raises UserError where it is not whole, or has
    parts that the family does not know; nothing is left behind then.
    """
    config = assemble.config_of(checkpoint)
    _check(config, checkpoint)
    tokenizer = assemble.tokenizer_of(checkpoint)
    image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
    marks = [getattr(tokenizer, name, usual) for name, usual in MARKS.items()]
    ChatPrompt(tokenizer, image_token, checkpoint, (marks[:1], marks[1:]))  # can it be asked?
    merge = round(1 / config.downsample_ratio)
    tower_config = {
        "vision": architecture(config.vision_config),
        "width": config.text_config.hidden_size,
        "merge": merge,
        "activation": config.projector_hidden_act,
        "image_size": assemble.image_size(image_size, merge * config.vision_config.patch_size[0]),
        **statistics(checkpoint),
    }
    if not list(checkpoint.glob("*.safetensors")):
        raise UserError(
            f"The checkpoint in {checkpoint} is not complete: its weights as safetensors must be there."
        )
    widen_window(config.text_config, checkpoint)
    whole: Any = InternVLForConditionalGeneration.from_pretrained(checkpoint, config=config, dtype="auto")
    language_model = split.language_model_of(whole)
    description = {
        "family": FAMILY,
        "name": output.name,
        "image_token": image_token,
        "image_marks": marks,
        "end": end_of_answer(tokenizer),
        "vocabulary": vocabulary,
    }
    tower = _tower(whole.model, tower_config)
    split.write(output, description, tower, whole.dtype, language_model, tokenizer, {})


def _check(config: Any, where: Path) -> None:
    """Refuse what would be read otherwise than the model does."""
    kind = config.text_config.model_type
    if kind not in LANGUAGE_MODELS:
        raise UserError(
            f"The language model in {where} is of type {kind!r}; known in an InternVL checkpoint are "
            f"{', '.join(LANGUAGE_MODELS)}."
        )
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


def _tower(model: nn.Module, config: dict[str, Any]) -> towers.Tower:
    """The vision model and the projector."""
    whole: Any = model
    tower: Any = towers.build(FAMILY, config)
    for own, theirs in (
        (tower.visual, whole.vision_tower),
        (tower.projector, whole.multi_modal_projector),
    ):
        weights = theirs.state_dict()
        own.load_state_dict({name: weights[name].float() for name in own.state_dict()})
    made: towers.Tower = tower
    return made
