"""Gemma 3 checkpoints of some random weights, as transformers stores them, and supervisors of them."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    PreTrainedTokenizerFast,
)

from saga_ray.models.supervisors import _gemma3_assemble as assemble
from saga_ray.models.supervisors.gemma3 import load
from tests.models.supervisors.projected import Pair, exactly
from tests.models.supervisors.tiny_llava import _trained

PATCH, MERGE, SIDE = 14, 2, 2
PIXELS = 56
"""Of the tower's own table of positions: 2 x 2 tokens."""
HIDDEN, LAYERS = 64, 3
KINDS_OF_LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
NAMED = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
TEMPLATE = (  # as the checkpoints' own, without system's turn
    "{{ bos_token }}{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}{%- set role = 'model' -%}"
    "{%- else -%}{%- set role = message['role'] -%}{%- endif -%}"
    "{{ '<start_of_turn>' + role + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] | trim }}"
    "{%- else -%}{%- for item in message['content'] -%}"
    "{%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}"
    "{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}{%- endfor -%}{%- endif -%}"
    "{{ '<end_of_turn>\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with Gemma's marks."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=TEMPLATE,
        extra_special_tokens=NAMED,
    )
    marks = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", *NAMED.values()]
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks], special_tokens=True)
    return made


def processor(size: int) -> Gemma3ImageProcessorPil:
    """The library's own that needs no torchvision, resizing as the data pipeline does."""
    return Gemma3ImageProcessorPil(size={"height": size, "width": size}, resample=3)


def checkpoint(folder: Path, window: int = 40, **text: Any) -> Any:
    """Write a checkpoint whose sliding layers see `window` positions; returns its model."""
    words = tokenizer()
    config = Gemma3Config(
        text_config={
            "vocab_size": len(words),
            "hidden_size": HIDDEN,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "query_pre_attn_scalar": 20,
            "max_position_embeddings": 2048,
            "sliding_window": window,
            "layer_types": KINDS_OF_LAYERS,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.convert_tokens_to_ids("<end_of_turn>"),
            "pad_token_id": words.pad_token_id,
            "initializer_range": 0.1,
            **text,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": PIXELS,
            "patch_size": PATCH,
            "vision_use_head": False,
        },
        mm_tokens_per_image=SIDE**2,
        boi_token_index=words.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=words.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=words.convert_tokens_to_ids("<image_soft_token>"),
    )
    torch.manual_seed(3)
    model = Gemma3ForConditionalGeneration(config)
    with torch.no_grad():  # the library's start has zeros where these models have norms and a projection
        for parameter in model.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    processor(PIXELS).save_pretrained(folder)
    return model


def of_size(model: Any, size: int) -> Any:
    """The model that reads pictures of another size with as many patches a token: positions interpolated as
    the library does it. (Its own projector knows one size.)"""
    config = copy.deepcopy(model.config)
    config.vision_config.image_size = size
    config.mm_tokens_per_image = (size // PATCH // MERGE) ** 2
    other = Gemma3ForConditionalGeneration(config).to(model.dtype).eval()
    weights = model.state_dict()
    name = "model.vision_tower.embeddings.position_embedding.weight"
    patches = torch.empty(1, (size // PATCH) ** 2, weights[name].shape[1])
    embeddings = model.model.vision_tower.embeddings
    with torch.no_grad():
        weights[name] = embeddings.interpolate_pos_encoding(patches, size, size)[0]
    other.load_state_dict(weights)
    return other


def arguments(image_token_id: int, ids_1S: Tensor, pixels_BCHW: Tensor | None) -> dict[str, Any]:
    """The whole model's: it is told which tokens are images', as by its processor."""
    of_images_1S = (ids_1S == image_token_id).long()
    return {"input_ids": ids_1S, "pixel_values": pixels_BCHW, "token_type_ids": of_images_1S}


def pair(folder: Path, size: int, window: int) -> Pair:
    """Model and supervisor of one checkpoint in `folder`, for pictures of a size."""
    model = checkpoint(folder / "checkpoint", window).double()
    assemble.of_checkpoint(folder / "checkpoint", folder / "supervisor", "birds", size)
    supervisor = load(folder / "supervisor", "float32")
    whole = model if size == PIXELS else of_size(model, size)
    given = partial(arguments, model.config.image_token_id)
    return exactly(whole, supervisor, size, size // PATCH // MERGE, given)
