"""Idefics3 and SmolVLM checkpoints of some random weights, as transformers stores them, and supervisors of
them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Resampling
from tokenizers import AddedToken, Tokenizer
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    Idefics3ImageProcessorPil,
    PreTrainedTokenizerFast,
)

from saga_ray.models.supervisors import _idefics3_assemble as assemble
from saga_ray.models.supervisors.idefics3 import load
from tests.models.supervisors.projected import Pair, exactly
from tests.models.supervisors.tiny_llava import _trained

HIDDEN, LAYERS = 64, 3
TEMPLATE = (  # as the checkpoints' own; Idefics3 begins with Llama's first token
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
MEAN = STD = [0.5, 0.5, 0.5]


@dataclass(frozen=True)
class Kind:
    """One type of checkpoint."""

    model_type: str
    pixels: int
    """Of the vision model's own pictures."""
    patch: int
    merge: int
    tied: bool
    global_token: bool
    """The tokenizer has the token <global-img>, which is words elsewhere."""


IDEFICS3 = Kind("idefics3", pixels=56, patch=14, merge=2, tied=False, global_token=False)
SMOLVLM = Kind("smolvlm", pixels=64, patch=8, merge=4, tied=True, global_token=True)


def tokenizer(kind: Kind) -> PreTrainedTokenizerFast:
    """Byte-level BPE with the models' marks."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        bos_token="<|im_start|>",
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )
    marks = ["<|im_start|>", "<|endoftext|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    marks += ["<global-img>"] * kind.global_token
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks], special_tokens=True)
    return made


def processor(size: int) -> Idefics3ImageProcessorPil:
    """The library's own that needs no torchvision: one tile, resized once, as the data pipeline does it."""
    return Idefics3ImageProcessorPil(
        size={"longest_edge": size},
        max_image_size={"longest_edge": size},
        resample=Resampling.BICUBIC,
        image_mean=MEAN,
        image_std=STD,
        do_image_splitting=False,
    )


def checkpoint(folder: Path, kind: Kind, **text: Any) -> Any:
    """Write a checkpoint; returns its model."""
    words = tokenizer(kind)
    config = AutoConfig.for_model(
        kind.model_type,
        text_config={
            "model_type": "llama",
            "vocab_size": len(words),
            "hidden_size": HIDDEN,
            "intermediate_size": 96,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 32,
            "max_position_embeddings": 2048,
            "bos_token_id": words.bos_token_id,
            "eos_token_id": words.convert_tokens_to_ids("<end_of_utterance>"),
            "pad_token_id": words.pad_token_id,
            "initializer_range": 0.1,
            **text,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": kind.pixels,
            "patch_size": kind.patch,
        },
        scale_factor=kind.merge,
        image_token_id=words.convert_tokens_to_ids("<image>"),
        pad_token_id=words.pad_token_id,
        tie_word_embeddings=kind.tied,
    )
    torch.manual_seed(3)
    model = AutoModelForImageTextToText.from_config(config)
    with torch.no_grad():  # random biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    processor(kind.pixels).save_pretrained(folder)
    return model


def arguments(ids_1S: Tensor, pixels_BCHW: Tensor | None) -> dict[str, Any]:
    """The whole model's: pictures stand behind those of a prompt."""
    pixels_1BCHW = None if pixels_BCHW is None else pixels_BCHW[None]
    return {"input_ids": ids_1S, "pixel_values": pixels_1BCHW}


def pair(folder: Path, kind: Kind, size: int) -> Pair:
    """Model and supervisor of one checkpoint in `folder`, for pictures of a size."""
    model = checkpoint(folder / "checkpoint", kind)
    assemble.of_checkpoint(folder / "checkpoint", folder / "supervisor", "birds", size)
    supervisor = load(folder / "supervisor", "float32")
    return exactly(model, supervisor, size, size // kind.patch // kind.merge, arguments)
