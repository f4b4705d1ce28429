"""The presets of the paper's experiments, on released models' sizes without their weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
    InternVLConfig,
    InternVLForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)

from saga_ray.config.overrides import resolve
from saga_ray.config.presets import preset_names
from saga_ray.data import sources
from saga_ray.models import towers
from saga_ray.models.pooler import Pooler
from saga_ray.models.towers._qwen_vl import architecture
from saga_ray.prompts import vocabulary

IMAGES = {
    "cub": 5864,
    "cars": 8054,
    "aircraft": 5000,
    "inat-aves": 37150,
}  # that train
FIELDS = {"cub": "birds", "cars": "cars", "aircraft": "aircraft", "inat-aves": "birds"}


def qwen3vl_8b() -> nn.Module:
    """config.json of Qwen/Qwen3-VL-8B-Instruct."""
    text = {
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
    }
    vision = {
        "depth": 27,
        "hidden_size": 1152,
        "intermediate_size": 4304,
        "num_heads": 16,
        "out_hidden_size": 4096,
        "patch_size": 16,
        "deepstack_visual_indexes": [8, 16, 24],
    }
    config = Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=False)
    return Qwen3VLForConditionalGeneration._from_config(config)  # type: ignore[no-any-return,no-untyped-call]


def qwen25vl_3b() -> nn.Module:
    """config.json of Qwen/Qwen2.5-VL-3B-Instruct."""
    text = {
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    }
    vision = {
        "depth": 32,
        "hidden_size": 1280,
        "intermediate_size": 3420,
        "num_heads": 16,
        "out_hidden_size": 2048,
        "fullatt_block_indexes": [7, 15, 23, 31],
    }
    config = Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True)
    return Qwen2_5_VLForConditionalGeneration._from_config(config)  # type: ignore[no-any-return,no-untyped-call]


def internvl35_8b() -> nn.Module:
    """config.json of OpenGVLab/InternVL3_5-8B-HF: InternViT-300M-448px and Qwen3-8B."""
    text = {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 4096,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
    }
    vision = {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "attention_bias": True,
        "image_size": [448, 448],
        "patch_size": [14, 14],
    }
    config = InternVLConfig(
        text_config=text, vision_config=vision, image_token_id=151671, tie_word_embeddings=False
    )
    return InternVLForConditionalGeneration._from_config(config)  # type: ignore[no-any-return,no-untyped-call]


MODELS = {
    "qwen3vl-8b": (qwen3vl_8b, "qwen3_vl", 8.8e9, 49, {}),
    "qwen2.5vl-3b": (qwen25vl_3b, "qwen2_5_vl", 3.8e9, 64, {}),
    "internvl3.5-8b": (
        internvl35_8b,
        "internvl",
        8.53e9,
        64,
        {"width": 4096, "merge": 2, "activation": "gelu"},
    ),
}


@pytest.mark.parametrize("data", IMAGES)
@pytest.mark.parametrize("model", MODELS)
def test_a_preset_fits_its_data_and_its_model(data: str, model: str) -> None:
    name = f"{data}-{model}"
    settings = resolve(name, [], None)
    assert settings.name == name
    assert settings.data.source in sources.names() and settings.data.root
    micro_batch = settings.data.classes_per_batch * settings.data.images_per_class
    assert micro_batch == 64
    assert settings.train.steps == pytest.approx(3 * IMAGES[data] / micro_batch, abs=0.5)
    assert Path(settings.supervisor.path).name == f"{model}-{FIELDS[data]}"
    vocabulary.load(FIELDS[data])

    build, family, size, tokens, more = MODELS[model]
    with torch.device("meta"):
        whole: Any = build()
        shape = {"vision": architecture(whole.config.vision_config), "image_size": settings.data.image_size}
        tower = towers.build(family, shape | more | {"mean": [0.5] * 3, "std": [0.5] * 3})
    # embeddings of the words count once where the head shares them
    counted = sum(parameter.numel() for parameter in whole.parameters())
    assert counted == pytest.approx(size, rel=0.02)
    assert tower.tokens_per_image == tokens
    assert settings.distillation.layer < whole.config.text_config.num_hidden_layers
    assert tower.pooled_width == whole.config.text_config.hidden_size == settings.encoder.embedding_size
    assert settings.rollout.gpus_per_actor + settings.train.gpus_per_worker <= 1


def test_internvl_s_own_size_is_256_tokens_of_as_many_weights() -> None:
    with torch.device("meta"):
        whole: Any = internvl35_8b()
        vision = architecture(whole.config.vision_config)
        config = {"vision": vision, "mean": [0.5] * 3, "std": [0.5] * 3} | MODELS["internvl3.5-8b"][-1]
        tower = towers.build("internvl", config | {"image_size": 448})
    assert (tower.tokens_per_image, tower.token_width) == (256, 4096)
    parts = whole.model.vision_tower, whole.model.multi_modal_projector
    theirs = {name: value.shape for part in parts for name, value in part.named_parameters()}
    ours = {name.partition(".")[2]: value.shape for name, value in tower.named_parameters()}
    assert ours == theirs


def test_the_pooler_reads_no_features_of_the_first_layers() -> None:
    x_BND = torch.randn(2, 3, 12)
    pooler = Pooler(4)
    with torch.no_grad():
        pooler.query.copy_(torch.randn(4))
    z_BE, beta_BN = pooler(x_BND)
    other_BND = torch.cat([x_BND[..., :4], torch.randn(2, 3, 8)], dim=-1)
    assert z_BE.shape == (2, 4)
    assert torch.equal(pooler(other_BND)[0], z_BE) and torch.equal(pooler.attention(x_BND), beta_BN)


def test_no_preset_is_left_out() -> None:
    assert {name for name in preset_names() if re.search(r"vl[-3]", name)} == {
        f"{data}-{model}" for data in IMAGES for model in MODELS
    }
