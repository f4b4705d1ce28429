"""InternVL checkpoints of some random weights, as transformers stores them, and supervisors of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from transformers import InternVLConfig, InternVLForConditionalGeneration, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

from saga_ray.models.supervisors import _internvl_assemble as assemble
from saga_ray.models.supervisors.internvl import load
from tests.models.supervisors.projected import Pair, exactly
from tests.models.supervisors.tiny_llava import _trained

PATCH, MERGE, TOKENS = 14, 2, 4
PIXELS = 56
"""Of the tower's own table of positions: 2 x 2 tokens."""
HIDDEN, LAYERS = 64, 3
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
TEMPLATE = (  # as the checkpoints' own, without videos
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}"
    "{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{{'<|im_end|>\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)
NAMED = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
"""InternVL3's positions."""


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE with InternVL's marks."""
    made = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()),
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
        extra_special_tokens=NAMED,
    )
    marks = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", *NAMED.values()]
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks], special_tokens=True)
    return made


def processor(size: int) -> GotOcr2ImageProcessorPil:
    """The library's own that needs no torchvision, for one tile."""
    return GotOcr2ImageProcessorPil(
        size={"height": size, "width": size}, image_mean=MEAN, image_std=STD, crop_to_patches=False
    )


def checkpoint(folder: Path, language: str = "qwen3", vision: dict[str, Any] | None = None) -> Any:
    """Write an InternVL checkpoint; returns its model."""
    words = tokenizer()
    text = {
        "model_type": language,
        "vocab_size": len(words),
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 32,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": words.eos_token_id,
        "pad_token_id": words.pad_token_id,
        "initializer_range": 0.1,
        "tie_word_embeddings": False,
    }
    if language == "qwen2":
        text |= {"rope_parameters": dict(DYNAMIC)}
        del text["head_dim"]
    config = InternVLConfig(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "attention_bias": True,
            "image_size": [PIXELS, PIXELS],
            "patch_size": [PATCH, PATCH],
            **(vision or {}),
        },
        image_token_id=words.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=TOKENS,
        tie_word_embeddings=False,
    )
    torch.manual_seed(3)
    model = InternVLForConditionalGeneration(config)
    with torch.no_grad():  # the library's start has zeros where these models have positions
        for parameter in model.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    processor(PIXELS).save_pretrained(folder)
    return model


def pair(folder: Path, language: str, size: int, vision: dict[str, Any] | None = None) -> Pair:
    """Model and supervisor of one checkpoint in `folder`, for pictures of a size."""
    model = checkpoint(folder / "checkpoint", language, vision)
    assemble.of_checkpoint(folder / "checkpoint", folder / "supervisor", "birds", size)
    return exactly(model, load(folder / "supervisor", "float32"), size, size // PATCH // MERGE)


def description(folder: Path) -> dict[str, Any]:
    """What `supervisor.json` says."""
    said: dict[str, Any] = json.loads((folder / "supervisor.json").read_text())
    return said
