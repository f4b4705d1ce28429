"""The presets of the paper's experiments, on released models' sizes without their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import (
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


MODELS = {
    "qwen3vl-8b": (qwen3vl_8b, "qwen3_vl", 8.8e9, 49),
    "qwen2.5vl-3b": (qwen25vl_3b, "qwen2_5_vl", 3.8e9, 64),
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

    build, family, size, tokens = MODELS[model]
    with torch.device("meta"):
        whole: Any = build()
        shape = {"vision": architecture(whole.config.vision_config), "image_size": settings.data.image_size}
        tower = towers.build(family, shape | {"mean": [0.5] * 3, "std": [0.5] * 3})
    # embeddings of the words count once where the head shares them
    counted = sum(parameter.numel() for parameter in whole.parameters())
    assert counted == pytest.approx(size, rel=0.02)
    assert tower.tokens_per_image == tokens
    assert settings.distillation.layer < whole.config.text_config.num_hidden_layers
    assert tower.pooled_width == whole.config.text_config.hidden_size == settings.encoder.embedding_size
    assert settings.rollout.gpus_per_actor + settings.train.gpus_per_worker <= 1


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
    assert {name for name in preset_names() if "vl-" in name} == {
        f"{data}-{model}" for data in IMAGES for model in MODELS
    }
