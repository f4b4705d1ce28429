"""Qwen2.5-VL and Qwen3-VL of a few thousand random weights, as released checkpoints lie in a folder.

Pictures are 3 x 3 tokens: an odd number, so that Qwen2.5-VL's windows are of different sizes, and no size of
Qwen3-VL's table of positions.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from saga_ray.models.supervisors import _assemble as assemble
from saga_ray.prompts import vocabulary
from saga_ray.prompts.template import STYLES, instruction

SIDE, WIDTH, HEADS = 3, 64, 2
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = """\
expert = "gardener"
what = "flowers"
item = "flower"
example = "five, white"
verdict_question = "same species?"
verdict_key = "same_species"
attributes = ["petals", "leaf shape"]
"""
PIXELS = {"qwen2_5_vl": 28 * SIDE, "qwen3_vl": 32 * SIDE}
MEAN_STD = {
    "qwen2_5_vl": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "qwen3_vl": ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
}


def answer(petals: tuple[str, str], leaf: tuple[str, str], verdict: str) -> str:
    """A whole answer of the attribute style."""
    return json.dumps(
        {
            "flower_1": {"petals": petals[0], "leaf shape": leaf[0]},
            "flower_2": {"petals": petals[1], "leaf shape": leaf[1]},
            "differences": "colour",
            "confidence": "high",
            "reasoning": "they look alike",
            "same_species": verdict,
        },
        ensure_ascii=False,
    )


def write_supervisor(family: str, folder: Path) -> Any:
    """The folder of a supervisor, and the whole model that stands in it."""
    with tempfile.TemporaryDirectory() as made:
        checkpoint, words = Path(made, "checkpoint"), Path(made, "flowers.toml")
        model = write_checkpoint(family, checkpoint)
        words.write_text(VOCABULARY)
        assemble.of_checkpoint(checkpoint, folder, str(words), PIXELS[family])
    return model


def write_checkpoint(family: str, folder: Path) -> Any:
    """A checkpoint as it is released, and the whole model that is stored in it."""
    tokenizer = _tokenizer()
    model = _model(family, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    processor(family).save_pretrained(folder)
    return model


def processor(family: str) -> Any:
    """The library's own, which needs no torchvision; no picture is enlarged or shrunk."""
    mean, std = MEAN_STD[family]
    return Qwen2VLImageProcessorPil(
        patch_size=PIXELS[family] // SIDE // 2,
        image_mean=mean,
        image_std=std,
        min_pixels=1,
        max_pixels=10**8,
    )


def pictures(family: str, count: int, seed: int = 0) -> Tensor:
    """Random pictures, uint8 BHWC."""
    size = PIXELS[family]
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE like the released one, learned from the prompts and an answer."""
    known = vocabulary.load("birds")
    texts = [instruction(known, style) for style in STYLES]
    texts += [answer(("five", "six"), ("oval", "round"), verdict) for verdict in ("yes", "no")]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=TEMPLATE,
    )


def _model(family: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    token_id = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    ids = {
        "image_token_id": token_id("<|image_pad|>"),
        "video_token_id": token_id("<|video_pad|>"),
        "vision_start_token_id": token_id("<|vision_start|>"),
        "vision_end_token_id": token_id("<|vision_end|>"),
    }
    torch.manual_seed(0)
    if family == "qwen2_5_vl":
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]}
        vision |= {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1], "hidden_act": "silu"}
        model: Any = Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
        )
    else:
        text |= {
            "head_dim": 32,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        }
        del text["bos_token_id"]
        vision |= {"patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
        model = Qwen3VLForConditionalGeneration(Qwen3VLConfig(text_config=text, vision_config=vision, **ids))
    with torch.no_grad():  # the library's start is too small for anything to matter
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 1.2 * parameter[0].numel() ** -0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()
