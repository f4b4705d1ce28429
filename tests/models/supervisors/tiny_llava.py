"""LLaVA checkpoints of some random weights, as transformers stores them, and supervisors of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    MistralConfig,
    Phi3Config,
    Phi3ForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    SiglipVisionConfig,
)

from saga_ray.models.supervisors import _llava_assemble as assemble
from saga_ray.models.supervisors.llava import Llava, load
from saga_ray.prompts.template import instruction
from saga_ray.prompts.vocabulary import load as load_vocabulary
from tests.models import test_replay  # registers an eager attention in full precision

PIXELS, PATCH, TOKENS, WIDTH = 28, 14, 4, 32
HIDDEN, LAYERS = 64, 3
EAGER = test_replay.eager64.__name__
PARTS_TEMPLATE = (  # LLaVA-1.5's, as llava-hf has it, without generation marks
    "{% for message in messages %}{{ message['role'].upper() + ': ' }}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}"
    "{% endfor %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' ' }}{% endfor %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}"
    "{% endif %}"
)
TEXT_TEMPLATE = (  # Phi-3.5's
    "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)
ANSWER = (
    '{"bird_1": {"bill shape": "short, cone-shaped", "leg color": "dark grey"}, "bird_2": {"bill shape": '
    '"häkchen — long", "leg color": "red"}, "differences": "bill", "confidence": "high", "reasoning": '
    '"The bills differ.", "same_species": "no"}'
)


@cache
def _trained() -> str:
    """A byte-level BPE of the instruction's and an answer's words."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=440, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False
    )
    birds = load_vocabulary("birds")
    texts = [instruction(birds, "attributes"), instruction(birds, "generic"), ANSWER, '"same_species": "yes"']
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str()


def tokenizer(template: str, *, image: bool = True) -> PreTrainedTokenizerFast:
    """`<s>` before every text (with LLaVA's template), `</s>`, Phi-3's marks, and `<image>` if asked."""
    backend = Tokenizer.from_str(_trained())
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>", chat_template=template
    )
    marks = ["<|user|>", "<|assistant|>", "<|end|>", *(["<image>"] if image else [])]
    made.add_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks], special_tokens=True)
    return made


def text_config(kind: str, vocabulary: int) -> Any:
    """A tiny language model of a kind; Phi-3's scaled positions and idle window are Phi-3.5's."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": HIDDEN,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 2048,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "initializer_range": 0.1,
    }
    if kind == "phi3":
        scaled = {
            "rope_type": "longrope",
            "rope_theta": 10000.0,
            "short_factor": [1.0 + 0.05 * k for k in range(16)],
            "long_factor": [1.5 + 0.3 * k for k in range(16)],
            "original_max_position_embeddings": 1024,
        }
        more = {"rope_parameters": scaled, "original_max_position_embeddings": 1024, "sliding_window": 4096}
        return Phi3Config(**common, **more)
    kinds = {"llama": LlamaConfig, "qwen2": Qwen2Config, "mistral": MistralConfig}
    return kinds[kind](**common, **({"sliding_window": None} if kind == "mistral" else {}))


def vision_config(kind: str, **more: Any) -> Any:
    """A tiny vision transformer of a kind."""
    common = {
        "hidden_size": WIDTH,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": PIXELS,
        "patch_size": PATCH,
    }
    return CLIPVisionConfig(**common) if kind == "clip" else SiglipVisionConfig(**common, **more)


@dataclass
class Pair:
    """transformers' own whole model, and the supervisor of its checkpoint, both float64 throughout."""

    whole: Any
    supervisor: Llava
    checkpoint: Path

    def tower(self) -> Any:
        return self.supervisor.build_tower().double()


def exact_norms(model: nn.Module) -> None:
    """Without the rounding to float32 inside the library's norms."""
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = MethodType(_exact, module)  # type: ignore[assignment]


def _exact(self: Any, hidden: Tensor) -> Tensor:
    gemma = type(self).__name__.startswith("Gemma")
    scale = (hidden.pow(2).mean(-1, keepdim=True) + (self.eps if gemma else self.variance_epsilon)).rsqrt()
    normed: Tensor = (self.weight + gemma) * (hidden * scale)
    return normed


def checkpoint(folder: Path, language: str = "llama", vision: str = "clip", **changes: Any) -> Any:
    """Write a LLaVA checkpoint; returns its model."""
    words = tokenizer(TEXT_TEMPLATE if language == "phi3" else PARTS_TEMPLATE)
    config = LlavaConfig(
        vision_config=vision_config(vision),
        text_config=text_config(language, len(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="default" if vision == "clip" else "full",
        **changes,
    )
    return _written(LlavaForConditionalGeneration, config, words, folder)


def onevision_checkpoint(folder: Path) -> Any:
    """Write a LLaVA-OneVision checkpoint; returns its model."""
    words = tokenizer(PARTS_TEMPLATE)
    config = LlavaOnevisionConfig(
        vision_config=vision_config("siglip", vision_use_head=False),
        text_config=text_config("qwen2", len(words)),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=len(words) - 1,
        image_grid_pinpoints=[[PIXELS, PIXELS], [PIXELS, 2 * PIXELS]],
    )
    return _written(LlavaOnevisionForConditionalGeneration, config, words, folder)


def _written(kind: Any, config: Any, words: PreTrainedTokenizerFast, folder: Path) -> Any:
    torch.manual_seed(3)
    model = kind(config)
    with torch.no_grad():  # random biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.08 * torch.randn_like(parameter))
    model.eval().save_pretrained(folder)
    words.save_pretrained(folder)
    return model


def pair(folder: Path, language: str = "llama", vision: str = "clip", **changes: Any) -> Pair:
    """Both, of one checkpoint in `folder`."""
    return both_of(checkpoint(folder / "checkpoint", language, vision, **changes), folder)


def both_of(model: Any, folder: Path) -> Pair:
    """A model whose checkpoint lies in `folder`, and the supervisor of it."""
    assemble.of_checkpoint(folder / "checkpoint", folder / "supervisor", "birds")
    supervisor = load(folder / "supervisor", "float32").double()
    exact_norms(model)
    exact_norms(supervisor)
    return Pair(model.double().requires_grad_(False), supervisor, folder / "checkpoint")


def pictures(count: int, size: int = PIXELS, seed: int = 0) -> Tensor:
    """Random uint8 pictures images_BHWC."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, size, size, 3), dtype=torch.uint8, generator=generator)


def description(folder: Path) -> dict[str, Any]:
    """What `supervisor.json` says."""
    said: dict[str, Any] = json.loads((folder / "supervisor.json").read_text())
    return said


def vision_model(folder: Path, **changes: Any) -> CLIPModel:
    """CLIP with its text side, as it is published."""
    text = CLIPTextConfig(
        vocab_size=20, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    torch.manual_seed(5)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision_config("clip").to_dict() | changes))
    model.save_pretrained(folder)
    return model


def language_model(folder: Path, template: str | None = TEXT_TEMPLATE) -> Phi3ForCausalLM:
    """Phi-3 with a tokenizer that knows no pictures."""
    words = tokenizer(template or TEXT_TEMPLATE, image=False)
    words.chat_template = template
    model = Phi3ForCausalLM(text_config("phi3", len(words) + 8))
    model.to(torch.bfloat16).save_pretrained(folder)
    words.save_pretrained(folder)
    return model
