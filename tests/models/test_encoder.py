"""The encoder's start and its stored form, which needs no supervisor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from saga_ray.config.settings import EncoderSettings
from saga_ray.errors import UserError
from saga_ray.models import towers
from saga_ray.models.encoder import Encoder
from tests.tiny import tiny_images, tiny_supervisor


def trained(settings: EncoderSettings) -> Encoder:
    """The start, moved off it."""
    encoder = Encoder.start_of(tiny_supervisor(), settings)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
    return encoder


def test_it_starts_as_the_supervisor_s_tower_and_mean_pooling() -> None:
    supervisor = tiny_supervisor()
    images_BHWC = tiny_images(6)
    encoder = Encoder.start_of(supervisor, EncoderSettings())
    x_BND = supervisor.build_tower()(images_BHWC)
    assert torch.equal(encoder.tokens(images_BHWC), x_BND)
    torch.testing.assert_close(encoder(images_BHWC), functional.normalize(x_BND.mean(1), dim=-1))


@pytest.mark.parametrize(
    "settings",
    [
        EncoderSettings(),
        EncoderSettings(embedding_size=5, pooling="mean"),
        EncoderSettings(precision="bfloat16"),
    ],
)
def test_a_stored_encoder_gives_the_same_embeddings(tmp_path: Path, settings: EncoderSettings) -> None:
    encoder = trained(settings)
    encoder.save(tmp_path / "encoder")
    loaded = Encoder.load(tmp_path / "encoder")
    assert torch.equal(loaded(tiny_images(6)), encoder(tiny_images(6)))
    assert not loaded.training
    assert {path.name for path in (tmp_path / "encoder").iterdir()} == {"config.json", "encoder.safetensors"}


def test_saving_again_replaces_what_was_there(tmp_path: Path) -> None:
    Encoder.start_of(tiny_supervisor(), EncoderSettings()).save(tmp_path)
    encoder = trained(EncoderSettings(embedding_size=3))
    encoder.save(tmp_path)
    assert torch.equal(Encoder.load(tmp_path)(tiny_images(2)), encoder(tiny_images(2)))


def test_bfloat16_is_the_tower_s_arithmetic_only() -> None:
    exact, rough = trained(EncoderSettings()), trained(EncoderSettings(precision="bfloat16"))
    x_BND, rough_BND = exact.tokens(tiny_images(4)), rough.tokens(tiny_images(4))
    assert rough_BND.dtype == torch.float32 and not torch.equal(x_BND, rough_BND)
    assert (x_BND - rough_BND).norm() / x_BND.norm() < 0.01
    assert {parameter.dtype for parameter in rough.parameters()} == {torch.float32}


def test_an_incomplete_folder_is_the_user_s_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no encoder"):
        Encoder.load(tmp_path)
    trained(EncoderSettings()).save(tmp_path)
    (tmp_path / "encoder.safetensors").unlink()
    with pytest.raises(UserError, match=r"encoder\.safetensors"):
        Encoder.load(tmp_path)


def test_the_config_says_what_the_encoder_is(tmp_path: Path) -> None:
    tower = towers.build("efficientnet_lite0", {"image_size": 64})
    Encoder(tower, trained(EncoderSettings(embedding_size=5)).pooler).save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["tower"] == {"name": "efficientnet_lite0", "config": {"image_size": 64}}
    assert config["image_size"] == 64 and config["pooler"]["embedding_size"] == 5
