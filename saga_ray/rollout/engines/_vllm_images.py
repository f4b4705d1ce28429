"""Prompts with images' own tokens, for vLLM: token ids with placeholders, and the tokens as `image_embeds`.

Such a request is handed over as vLLM's own processor would have made it, so no processor runs: that of the
Qwen-VL models cannot even be built without torchvision. What is left of it is the answer to how many tokens
an image has at most, which vLLM asks for when it starts.

Legend: N tokens of an image, D token width, 2N those of both.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from saga_ray.rollout.engines._prompt import PromptShape

ARGUMENTS = {
    "enable_mm_embeds": True,
    "limit_mm_per_prompt": {"image": 2, "video": 0},
    "mm_processor_cache_gb": 0,  # what comes from no processor cannot be found in its cache
    "skip_mm_profiling": True,  # the vision model never runs
}


def replace_processor(language_model: Path, tokens_per_image: int) -> None:
    """Let vLLM know how many tokens an image has without the model's processor."""
    from vllm.model_executor.models.registry import ModelRegistry
    from vllm.multimodal import MULTIMODAL_REGISTRY

    _do_without_torchvision()
    config = json.loads((language_model / "config.json").read_text(encoding="utf-8"))
    for architecture in config["architectures"]:
        model = ModelRegistry.models[architecture].load_model_cls()
        factories = model._processor_factory

        class Info(factories.info):  # type: ignore[misc, name-defined]
            def get_supported_mm_limits(self) -> Mapping[str, int | None]:
                return {"image": None}

            def get_mm_max_tokens_per_item(
                self, seq_len: int, mm_counts: Mapping[str, int]
            ) -> Mapping[str, int]:
                return {"image": tokens_per_image}

        MULTIMODAL_REGISTRY.register_processor(
            factories.processor, info=Info, dummy_inputs=factories.dummy_inputs
        )(model)


def _do_without_torchvision() -> None:
    """vLLM's Qwen-VL models take one function on sizes from the module of the library's image processor,
    which needs torchvision; the module of its twin, which needs none, has the same function."""
    if importlib.util.find_spec("torchvision") is None:
        folder = "transformers.models.qwen2_vl.image_processing_"
        sys.modules.setdefault(f"{folder}qwen2_vl", importlib.import_module(f"{folder}pil_qwen2_vl"))


def image_prompt(token_ids: list[int], x_ND: Tensor, shape: PromptShape, fields: Mapping[str, Tensor]) -> Any:
    """A prompt of two images; `fields` are what the model is told of each beside its tokens."""
    from vllm.inputs.engine import mm_input
    from vllm.multimodal.inputs import MultiModalFieldConfig, MultiModalKwargsItems, PlaceholderRange

    count = shape.tokens_per_image
    starts = [at for at, token in enumerate(token_ids) if token == shape.image_token_id][::count]
    inputs = {"image_embeds": x_ND} | {name: torch.stack([field] * 2) for name, field in fields.items()}
    layout = {"image_embeds": MultiModalFieldConfig.flat_from_sizes("image", torch.tensor([count, count]))}
    layout |= {name: MultiModalFieldConfig.batched("image", keep_on_cpu=True) for name in fields}
    return mm_input(
        token_ids,
        MultiModalKwargsItems.from_hf_inputs(inputs, layout),
        {"image": [_digest(image_ND) for image_ND in torch.split(x_ND, count)]},
        {"image": [PlaceholderRange(offset=start, length=count) for start in starts]},
    )


def _digest(x_ND: Tensor) -> str:
    """Of the tokens' values: equal ones alone share what the engine keeps of them."""
    values = x_ND.contiguous().view(torch.uint8).numpy().tobytes()
    return hashlib.blake2b(values, digest_size=16).hexdigest()
