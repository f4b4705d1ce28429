"""The folders of Qwen-VL supervisors and towers: stored and read again, sizes, what is said of wrong ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText

from saga_ray.cli.command_line import main
from saga_ray.composed.embedder import Embedder
from saga_ray.config.settings import EncoderSettings
from saga_ray.errors import UserError
from saga_ray.models import supervisors, towers
from saga_ray.models.encoder import Encoder
from saga_ray.models.towers._squares import architecture
from tests.models.supervisors import qwen


@pytest.fixture(scope="module", params=["qwen2_5_vl", "qwen3_vl"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder: Path = tmp_path_factory.mktemp(request.param) / "tiny"
    qwen.write_supervisor(request.param, folder)
    return folder, request.param


@pytest.mark.parametrize(
    ("family", "tokens", "width"), [("qwen2_5_vl", 64, 3584), ("qwen3_vl", 49, 4 * 3584)]
)
def test_224_pixels_are_224_pixels(family: str, tokens: int, width: int) -> None:
    vision = AutoConfig.for_model(family).vision_config
    with torch.device("meta"):
        tower = towers.build(family, {"vision": architecture(vision), "image_size": 224} | statistics(family))
    assert (tower.image_size, tower.tokens_per_image, tower.token_width) == (224, tokens, width)


def statistics(family: str) -> dict[str, Any]:
    return dict(zip(("mean", "std"), qwen.MEAN_STD[family], strict=True))


def test_the_families_and_their_towers_are_found() -> None:
    assert {"qwen2_5_vl", "qwen3_vl"} <= set(supervisors.families()) & set(towers.names())
    assert not [name for name in towers.names() if name.startswith("_")]


def test_an_encoder_stands_alone(stored: tuple[Path, str], tmp_path: Path) -> None:
    folder, family = stored
    encoder = Encoder.start_of(supervisors.load(folder), EncoderSettings(embedding_size=8)).eval()
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    encoder.save(tmp_path / "encoder")
    images_BHWC = qwen.pictures(family, 2)
    with torch.no_grad():
        again = Encoder.load(tmp_path / "encoder")(images_BHWC)
        assert torch.equal(again, encoder(images_BHWC))


def test_an_adapted_embedder_is_saved_as_a_whole_checkpoint(stored: tuple[Path, str], tmp_path: Path) -> None:
    folder, family = stored
    embedder = Embedder(supervisors.load(folder))
    embedder.adapt(rank=2, alpha=4, dropout=0.0, seed=0)
    with torch.no_grad():
        for parameter in embedder.trained():
            parameter.add_(0.05 * torch.randn_like(parameter))
    embedder.merge()
    embedder.save(tmp_path / "embedder")
    images_BHWC, words = qwen.pictures(family, 2), ["paint it red", "more of them"]
    with torch.no_grad():
        x_BND = embedder.tokens(images_BHWC)
        z_BE = embedder.composed(x_BND, words)
        again = Embedder.load(tmp_path / "embedder")
        torch.testing.assert_close(again.tokens(images_BHWC), x_BND, rtol=0, atol=0)
        torch.testing.assert_close(again.composed(x_BND, words), z_BE)
        assert not torch.allclose(Embedder(supervisors.load(folder)).composed(x_BND, words), z_BE, atol=1e-3)
    whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "embedder" / "model" / "language_model")
    adapted = dict(embedder.supervisor.language_model.named_parameters())
    missing = {name for name, _ in whole.named_parameters()} - set(adapted)
    assert missing and all("visual" in name for name in missing)
    assert all(
        torch.equal(value, adapted[name]) for name, value in whole.named_parameters() if name in adapted
    )


def test_bfloat16_is_the_language_model_s_alone(stored: tuple[Path, str]) -> None:
    folder, family = stored
    supervisor = supervisors.load(folder, "bfloat16")
    tower = supervisor.build_tower()
    assert next(tower.parameters()).dtype == torch.float32
    x_BND = tower(qwen.pictures(family, 2))
    prompt_PLH = supervisor.prompt_embeddings(x_BND[:1], x_BND[1:], "generic")
    assert prompt_PLH.dtype == supervisor.language_model.dtype == torch.bfloat16


def test_what_is_no_such_checkpoint_is_said_in_one_sentence(stored: tuple[Path, str], tmp_path: Path) -> None:
    folder, family = stored
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    described = json.loads((copy / "supervisor.json").read_text())

    def refused(sentence: str, **changes: Any) -> None:
        (copy / "supervisor.json").write_text(json.dumps(described | changes))
        with pytest.raises(UserError, match=sentence):
            supervisors.load(copy)

    other = {"qwen2_5_vl": "qwen3_vl", "qwen3_vl": "qwen2_5_vl"}[family]
    refused(f"a model of the type '{family}'", family=other)
    refused("set a multiple of it, for example", image_size=qwen.PIXELS[family] + 2)
    refused("There is no vocabulary 'brids'.*did you mean 'birds'", vocabulary="brids")
    del described["vocabulary"]
    refused("lacks 'vocabulary'")
    (copy / "language_model" / "preprocessor_config.json").unlink()
    refused("language_model/preprocessor_config.json is missing")


def test_a_text_with_the_mark_for_images_is_refused(stored: tuple[Path, str]) -> None:
    supervisor = supervisors.load(stored[0])
    with pytest.raises(UserError, match=r"holds <\|image_pad\|>, which stands for a picture"):
        supervisor.embedding_layout("put <|image_pad|> there", image=True)


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_a_checkpoint_becomes_a_supervisor_without_a_vocabulary(
    family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = qwen.write_checkpoint(family, tmp_path / "released")
    (tmp_path / "released" / "README.md").write_text("of no use")
    output = tmp_path / "made" / "tiny"
    asked = ["supervisor", "assemble", "--checkpoint", str(tmp_path / "released"), "--output", str(output)]
    assert main(asked) == 0
    assert capsys.readouterr().out == f"supervisor   {output}\n"
    made = supervisors.load(output)
    assert (made.family, made.name, made.build_tower().image_size) == (family, "tiny", 224)
    stored = dict(made.language_model.named_parameters())
    assert all(torch.equal(stored[name], value) for name, value in whole.named_parameters() if name in stored)
    assert not (output / "language_model" / "README.md").exists()
    assert made.answer_tokens("generic") > 5
    with pytest.raises(UserError, match="has no list of attributes"):
        made.answer_tokens("attributes")


def test_a_checkpoint_that_cannot_be_taken_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released, output = tmp_path / "released", tmp_path / "made"
    qwen.write_checkpoint("qwen3_vl", released)

    def refused(sentence: str, *more: str) -> None:
        asked = ["supervisor", "assemble", "--checkpoint", str(released), "--output", str(output), *more]
        assert main(asked) == 2
        assert sentence in capsys.readouterr().err
        assert sorted(tmp_path.iterdir()) == [released]

    refused("reads squares of 32 pixels; give a multiple of that, such as 96", "--image-size", "100")
    refused("There is no vocabulary 'brids'", "--vocabulary", "brids")
    (released / "model.safetensors").rename(released / "model.bin")
    refused("its weights as safetensors must be there")
    (released / "chat_template.jinja").unlink()
    refused("has no chat template")
    AutoConfig.for_model("blip-2").save_pretrained(released)
    known = "llava, llava_onevision, qwen2_5_vl, qwen3_vl, internvl, idefics3, smolvlm, gemma3"
    refused(f"holds a checkpoint of type 'blip-2'; known are {known}, or")
