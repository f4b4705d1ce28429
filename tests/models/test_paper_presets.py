"""The presets of the paper's experiments, on released models' sizes without their weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageTextToText

from saga_ray.config.overrides import resolve
from saga_ray.config.presets import preset_names
from saga_ray.data import sources
from saga_ray.models import towers
from saga_ray.models.pooler import Pooler
from saga_ray.models.towers._squares import architecture
from saga_ray.plan.known import KNOWN
from saga_ray.prompts import vocabulary

IMAGES = {
    "cub": 5864,
    "cars": 8054,
    "aircraft": 5000,
    "inat-aves": 37150,
}  # that train
FIELDS = {"cub": "birds", "cars": "cars", "aircraft": "aircraft", "inat-aves": "birds"}


def released(name: str) -> nn.Module:
    """A released model's architecture and sizes."""
    given = {key: value for key, value in KNOWN[name].items() if key != "model_type"}
    config = AutoConfig.for_model(KNOWN[name]["model_type"], **given)
    return AutoModelForImageTextToText.from_config(config)  # type: ignore[no-any-return,no-untyped-call]


MODELS = {
    "qwen3vl-8b": ("qwen3_vl", 8.8e9, 49, {}),
    "qwen2.5vl-3b": ("qwen2_5_vl", 3.8e9, 64, {}),
    "internvl3.5-8b": (
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

    family, size, tokens, more = MODELS[model]
    with torch.device("meta"):
        whole: Any = released(model)
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
        whole: Any = released("internvl3.5-8b")
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
