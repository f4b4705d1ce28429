"""Makes a LLaVA supervisor's folder (see `saga_ray.models.supervisors.llava`): of a LLaVA checkpoint, or of a
vision and a language model that have never met.

InstructCIR's backbone, CLIP ViT-L/14 at 224 px with Phi-3.5-mini, is published in its two parts only: the
projector between them then starts random, from a seed, and must be trained (stage 1 of composed retrieval).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    LlavaForConditionalGeneration,
    LlavaOnevisionForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.models.supervisors import _split_assemble as split
from saga_ray.models.supervisors._chat_prompt import ChatPrompt, end_of_answer
from saga_ray.models.supervisors.llava import FAMILY, Projector
from saga_ray.models.towers.clip import ACTIVATIONS, DEVIATION, MEAN, Clip
from saga_ray.models.towers.conversion import processor

IMAGE_TOKEN, ACTIVATION, LAYER = "<image>", "gelu", -2
"""What LLaVA has, for parts that come without."""
WHOLE: dict[str, type[PreTrainedModel]] = {
    "llava": LlavaForConditionalGeneration,
    "llava_onevision": LlavaOnevisionForConditionalGeneration,
}
"""Types of checkpoints that can be taken apart."""
KINDS = {"clip_vision_model": "clip", "siglip_vision_model": "siglip"}


def of_checkpoint(checkpoint: Path, output: Path, vocabulary: str | None) -> None:
    """Split a checkpoint of LlavaForConditionalGeneration, or of LLaVA-OneVision's class. Raises UserError
    where it has parts that the family does not know; nothing is left behind then.
    """
    config = assemble.config_of(checkpoint)
    layer = config.vision_feature_layer
    if not isinstance(layer, int):
        raise UserError(f"{checkpoint} joins the tokens of layers {layer}; only one layer's can be read.")
    kind = _kind(config.vision_config, checkpoint)
    needed = "default" if kind == "clip" else "full"
    if config.vision_feature_select_strategy != needed:
        raise UserError(
            f"{checkpoint} has vision_feature_select_strategy "
            f"{config.vision_feature_select_strategy!r}, and patch tokens alone are read: with a {kind} "
            f"tower it must be {needed!r}."
        )
    tokenizer = assemble.tokenizer_of(checkpoint)
    image_token: Any = tokenizer.convert_ids_to_tokens(config.image_token_id)
    ChatPrompt(tokenizer, image_token, checkpoint)  # can it be asked?
    _check_processor(checkpoint, config.vision_config, kind)
    layers = _layers(config.vision_config, layer)
    whole: Any = WHOLE[config.model_type].from_pretrained(checkpoint, dtype="auto")
    model = whole.model
    newline = {"image_newline": model.image_newline} if config.model_type == "llava_onevision" else {}
    projector = Projector(
        config.vision_config.hidden_size,
        config.text_config.hidden_size,
        config.projector_hidden_act,
        bias=config.multimodal_projector_bias,
        newline=bool(newline),
    )
    projector.to(whole.dtype).load_state_dict(model.multi_modal_projector.state_dict() | newline)
    language_model = split.language_model_of(whole)
    tower = _tower(model.vision_tower, kind, layers)
    description = {
        "name": output.name,
        "image_token": image_token,
        "end": end_of_answer(tokenizer),
        "activation": config.projector_hidden_act,
        "vocabulary": vocabulary,
    }
    _write(output, description, tower, model.vision_tower.dtype, projector, language_model, tokenizer)


def of_parts(vision: Path, language: Path, output: Path, vocabulary: str | None, seed: int) -> None:
    """Put a vision and a language model together, with a projector that has learned nothing. Raises
    UserError where one is of no known kind; nothing is left behind then.
    """
    config = assemble.config_of(vision)
    vision_config = getattr(config, "vision_config", config)  # of the towers' models, with text or without
    kind = _kind(vision_config, vision)
    _check_processor(vision, vision_config, kind)
    tokenizer = tokenizer_with_image(language)
    seeing: Any = AutoModel.from_pretrained(vision, dtype="auto")
    seeing = getattr(seeing, "vision_model", seeing)
    tower = _tower(seeing, kind, _layers(vision_config, LAYER))
    put_together(tower, seeing.dtype, language, tokenizer, output, vocabulary, seed)


def tokenizer_with_image(language: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a language model that has met no pictures, with a token for them. Raises UserError
    where it cannot be asked."""
    tokenizer = assemble.tokenizer_of(language)
    tokenizer.add_tokens([IMAGE_TOKEN], special_tokens=True)
    ChatPrompt(tokenizer, IMAGE_TOKEN, language)  # can it be asked?
    return tokenizer


def put_together(
    tower: towers.Tower,
    tower_dtype: torch.dtype,
    language: Path,
    tokenizer: PreTrainedTokenizerBase,
    output: Path,
    vocabulary: str | None,
    seed: int,
) -> None:
    """Write the folder of any tower and a language model, with a projector of random weights between them.
    Raises UserError where transformers does not know the language model; nothing is left behind then.
    """
    try:
        language_model: Any = AutoModelForCausalLM.from_pretrained(language, dtype="auto")
    except ValueError as error:
        raise UserError(f"{language} holds no language model that transformers knows.") from error
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        width = language_model.config.get_text_config().hidden_size
        projector = Projector(tower.token_width, width, ACTIVATION)
    description = {
        "name": output.name,
        "image_token": IMAGE_TOKEN,
        "end": end_of_answer(tokenizer),
        "activation": ACTIVATION,
        "vocabulary": vocabulary,
    }
    _write(output, description, tower, tower_dtype, projector, language_model, tokenizer)


def _kind(config: Any, where: Path) -> str:
    if config.model_type not in KINDS:
        raise UserError(
            f"The vision model in {where} is of type {config.model_type!r}; known are CLIP and SigLIP. With "
            "another one, `saga supervisor train --set tower=…` trains the projector too."
        )
    if config.hidden_act not in ACTIVATIONS:
        raise UserError(
            f"The vision model in {where} has the activation {config.hidden_act!r}; known are "
            f"{', '.join(ACTIVATIONS)}."
        )
    return KINDS[config.model_type]


def _check_processor(folder: Path, config: Any, kind: str) -> None:
    """The tower's own normalisation must be the checkpoint's."""
    for file in processor.FILES:
        if not (folder / file).is_file():
            continue
        stored = json.loads((folder / file).read_text(encoding="utf-8"))
        stored = stored.get("image_processor", stored)
        for key, own in (("image_mean", MEAN[kind]), ("image_std", DEVIATION[kind])):
            if key in stored and any(abs(a - b) > 1e-6 for a, b in zip(stored[key], own, strict=True)):
                raise UserError(
                    f"{folder / file} has {key} {stored[key]}, and a {kind} tower normalises with "
                    f"{list(own)}."
                )
        crop = stored.get("crop_size") or config.image_size
        height = crop["height"] if isinstance(crop, dict) else crop  # older files have one number
        if height != config.image_size:
            raise UserError(
                f"{folder / file} cuts pictures to {height} pixels, and the vision model reads "
                f"{config.image_size}."
            )


def _layers(config: Any, layer: int) -> int:
    """How many layers are before hidden state `layer` of transformers' list; its first is the embeddings."""
    depth = int(config.num_hidden_layers)
    layers = layer if layer >= 0 else depth + 1 + layer
    if not 0 <= layers <= depth:
        raise UserError(f"vision_feature_layer is {layer}, and the vision model has {depth} layers.")
    return layers


def _tower(model: nn.Module, kind: str, layers: int) -> Clip:
    """The vision model's first layers."""
    config: Any = model.config
    assert kind in ("clip", "siglip")
    tower = Clip(
        "clip" if kind == "clip" else "siglip",
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.hidden_size,
        hidden=config.intermediate_size,
        layers=layers,
        heads=config.num_attention_heads,
        activation=config.hidden_act,
        epsilon=config.layer_norm_eps,
    )
    weights = model.state_dict()
    tower.load_state_dict({name: weights[name].float() for name in tower.state_dict()})
    return tower


def _write(
    output: Path,
    description: dict[str, str | None],
    tower: towers.Tower,
    tower_dtype: torch.dtype,
    projector: Projector,
    language_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    weights = {key: value.detach().contiguous() for key, value in projector.state_dict().items()}
    files = {"projector.safetensors": to_safetensors(weights)}
    split.write(
        output, {"family": FAMILY, **description}, tower, tower_dtype, language_model, tokenizer, files
    )
