"""Takes the checkpoint of a multimodal model apart whose tower ends behind its projector: what the folders of
`saga_ray.models.supervisors._projected` are made of.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from transformers import AutoModelForImageTextToText, PreTrainedTokenizerBase

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _split_assemble as split


def check_language_model(config: Any, known: tuple[str, ...], where: Path) -> None:
    """Refuse a checkpoint whose language model is of none of the `known` types."""
    kind = config.text_config.model_type
    if kind not in known:
        raise UserError(
            f"The language model in {where} is of type {kind!r}; known in a checkpoint of type "
            f"{config.model_type!r} are {', '.join(known)}."
        )


def of_checkpoint(
    checkpoint: Path,
    output: Path,
    config: Any,
    tokenizer: PreTrainedTokenizerBase,
    description: Mapping[str, Any],
    tower: Mapping[str, Any],
    parts: tuple[str, str],
) -> None:
    """Write the supervisor's folder.

    Args:
        config: the checkpoint's.
        description: what `supervisor.json` is to say.
        tower: the tower's configuration.
        parts: names of the vision model and the projector in the whole model.

    Raises:
        UserError: the weights are not there.
    """
    if not list(checkpoint.glob("*.safetensors")):
        raise UserError(
            f"The checkpoint in {checkpoint} is not complete: its weights as safetensors must be there."
        )
    whole: Any = AutoModelForImageTextToText.from_pretrained(checkpoint, config=config, dtype="auto")
    language_model = split.language_model_of(whole)
    made: Any = towers.build(description["family"], tower)
    for own, name in zip((made.visual, made.projector), parts, strict=True):
        _copy(own, getattr(whole.model, name))
    split.write(output, description, made, whole.dtype, language_model, tokenizer, {})


def _copy(own: nn.Module, theirs: nn.Module) -> None:
    """Weights that take no part here stay behind."""
    weights = theirs.state_dict()
    own.load_state_dict({name: weights[name].float() for name in own.state_dict()})
