"""The folders of InternVL supervisors: made of checkpoints, stored and read again, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, InternVLConfig, InternVLForConditionalGeneration

from saga_ray.cli.command_line import main
from saga_ray.composed.embedder import Embedder
from saga_ray.config.settings import EncoderSettings
from saga_ray.errors import UserError
from saga_ray.models import supervisors, towers
from saga_ray.models.encoder import Encoder
from saga_ray.models.supervisors import _internvl_assemble as assemble
from saga_ray.models.supervisors._assemble import of_checkpoint
from tests.models.supervisors import tiny_internvl as tiny
from tests.models.supervisors.tiny_llava import pictures

SIZE = 84


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("internvl")
    tiny.checkpoint(path / "released")
    assemble.of_checkpoint(path / "released", path / "made", None, SIZE)
    return path / "made"


def test_the_family_and_its_tower_are_found() -> None:
    assert "internvl" in supervisors.families() and "internvl" in towers.names()


def test_a_checkpoint_is_split_unchanged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = tiny.checkpoint(tmp_path / "released", "qwen2")
    asked = ["supervisor", "assemble", "--checkpoint", str(tmp_path / "released"), "--vocabulary", "birds"]
    assert main([*asked, "--output", str(tmp_path / "made")]) == 0
    assert capsys.readouterr().out == f"supervisor   {tmp_path / 'made'}\n"
    assert tiny.description(tmp_path / "made") == {
        "family": "internvl",
        "name": "made",
        "image_token": "<IMG_CONTEXT>",
        "image_marks": ["<img>", "</img>"],
        "end": "<|im_end|>",
        "vocabulary": "birds",
    }
    made = supervisors.load(tmp_path / "made")
    assert made.verdict_key == "same_species" and made.answer_tokens("attributes") > 100
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "language_model", dtype="auto")
    text = stored.state_dict()
    for name, value in whole.model.language_model.state_dict().items():
        assert torch.equal(text[f"model.{name}"], value)
    assert torch.equal(text["lm_head.weight"], whole.lm_head.weight)
    assert stored.config.rope_parameters == tiny.DYNAMIC
    tower: Any = made.build_tower()
    assert (tower.image_size, tower.tokens_per_image) == (224, 64), "224 pixels are 224 pixels"
    parts = whole.model.vision_tower.state_dict(), whole.model.multi_modal_projector.state_dict()
    for own, theirs in zip((tower.visual, tower.projector), parts, strict=True):
        assert all(torch.equal(value, theirs[name]) for name, value in own.state_dict().items())
    images_BHWC = pictures(2, 224)
    expected_BND = whole.get_image_features(tower.pixels(images_BHWC)).pooler_output
    torch.testing.assert_close(tower(images_BHWC), expected_BND, rtol=1e-4, atol=1e-5)


def test_tied_words_and_half_precision_survive(tmp_path: Path) -> None:
    """Whatever the text's own configuration says: the whole model's decides."""
    config = tiny.checkpoint(tmp_path / "released").config
    config.tie_word_embeddings = True
    tied = InternVLForConditionalGeneration(config).to(torch.float16).eval()
    tied.save_pretrained(tmp_path / "released")
    assemble.of_checkpoint(tmp_path / "released", tmp_path / "made", None, 56)
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "language_model", dtype="auto")
    assert stored.dtype == torch.float16 and stored.lm_head.weight is stored.model.embed_tokens.weight
    assert torch.equal(stored.lm_head.weight, tied.lm_head.weight)


def test_weights_that_take_no_part_are_left_out(tmp_path: Path) -> None:
    tiny.checkpoint(tmp_path / "released", vision={"use_mask_token": True, "hidden_dropout_prob": 0.3})
    assemble.of_checkpoint(tmp_path / "released", tmp_path / "made", None, 56)
    tower = supervisors.load(tmp_path / "made").build_tower().train()
    assert torch.equal(tower(pictures(1, 56)), tower(pictures(1, 56))), "nothing is random"
    assert not [name for name, _ in tower.named_parameters() if "mask" in name]


def test_older_and_newer_files_of_the_processor_are_read(folder: Path, tmp_path: Path) -> None:
    tiny.checkpoint(tmp_path / "released")
    old = tmp_path / "released" / "preprocessor_config.json"
    newer = {"image_processor": json.loads(old.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}}
    old.unlink()
    (tmp_path / "released" / "processor_config.json").write_text(json.dumps(newer))
    assemble.of_checkpoint(tmp_path / "released", tmp_path / "made", None, SIZE)
    config = [supervisors.load(each).build_tower().config() for each in (folder, tmp_path / "made")]
    assert [each["mean"] for each in config] == [tiny.MEAN, [0.1, 0.2, 0.3]]
    assert [each["std"] for each in config] == [tiny.STD, tiny.STD]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_encoder_stands_alone(precision: Any, folder: Path, tmp_path: Path) -> None:
    settings = EncoderSettings(embedding_size=8, precision=precision)
    encoder = Encoder.start_of(supervisors.load(folder), settings).eval()
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    encoder.save(tmp_path / "encoder")
    with torch.no_grad():
        z_BE = encoder(pictures(2, SIZE))
        assert torch.equal(Encoder.load(tmp_path / "encoder")(pictures(2, SIZE)), z_BE)
    assert z_BE.shape == (2, 8)


def test_an_adapted_embedder_is_saved_as_a_supervisor_again(folder: Path, tmp_path: Path) -> None:
    embedder = Embedder(supervisors.load(folder))
    embedder.adapt(rank=2, alpha=4, dropout=0.0, seed=0)
    assert all("lora_" in name for name, each in embedder.named_parameters() if each.requires_grad)
    with torch.no_grad():
        for parameter in embedder.trained():
            parameter.add_(0.05 * torch.randn_like(parameter))
    embedder.merge()
    embedder.save(tmp_path / "embedder")
    with torch.no_grad():
        x_BND = embedder.tokens(pictures(2, SIZE))
        z_BE = embedder.composed(x_BND, ["in red", "taller"])
        again = Embedder.load(tmp_path / "embedder")
        assert torch.equal(again.tokens(pictures(2, SIZE)), x_BND)
        torch.testing.assert_close(again.composed(x_BND, ["in red", "taller"]), z_BE)
        start_BE = Embedder(supervisors.load(folder)).composed(x_BND, ["in red", "taller"])
    assert not torch.allclose(start_BE, z_BE, atol=1e-3)


def test_a_folder_that_is_not_whole_is_said_in_one_sentence(folder: Path, tmp_path: Path) -> None:
    supervisor = supervisors.load(folder)
    copy = tmp_path / "copy"
    copy.mkdir()
    supervisor.save(copy, supervisor.build_tower())
    described = json.loads((copy / "supervisor.json").read_text())

    def refused(sentence: str, **changes: Any) -> None:
        (copy / "supervisor.json").write_text(json.dumps(described | changes))
        with pytest.raises(UserError, match=sentence):
            supervisors.load(copy)

    refused("There is no vocabulary 'brids'.*did you mean 'birds'", vocabulary="brids")
    refused("has no token '<image>' for pictures", image_token="<image>")
    refused("has no token '<pic>' for pictures", image_marks=["<pic>", "</pic>"])
    refused("projector.safetensors is missing", family="llava")
    shape = json.loads((copy / "tower" / "tower.json").read_text())
    shape["config"]["width"] = 48
    (copy / "tower" / "tower.json").write_text(json.dumps(shape))
    refused("the tower's tokens have 48 numbers, and the language model reads 64")
    del described["image_marks"]
    refused("lacks 'image_marks'")
    (copy / "tower" / "tower.safetensors").unlink()
    refused("tower/tower.safetensors is missing")


def test_a_text_with_the_mark_for_images_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="holds <IMG_CONTEXT>, which stands for a picture"):
        supervisors.load(folder).embedding_layout("put <IMG_CONTEXT> there", image=True)


def _text(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["text_config"].update(changes)


def _vision(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config["vision_config"].update(changes)


def _whole(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda config: config.update(changes)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            _text(model_type="gpt_oss"),
            "'gpt_oss'; known in a checkpoint of type 'internvl' are llama, qwen2, qwen3",
        ),
        (_whole(vision_feature_layer=-2), "vision_feature_layer -2; only -1 can be read"),
        (_whole(vision_feature_select_strategy="full"), "'full'; only 'default' can be read"),
        (_whole(downsample_ratio=0.4), "downsample_ratio 0.4: a token would be no whole number of patches"),
        (_vision(image_size=[56, 84]), "has image_size 56 x 84: it must be square"),
        (_whole(model_type="internvl_chat"), "InternVL in its authors' layout.*ends with -HF"),
    ],
)
def test_another_kind_of_checkpoint_is_refused(
    change: Callable[[dict[str, Any]], None],
    said: str,
    tmp_path: Path,
) -> None:
    released = tmp_path / "released"
    tiny.checkpoint(released)
    config = json.loads((released / "config.json").read_text())
    change(config)
    (released / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        of_checkpoint(released, tmp_path / "made", None, None)
    assert list(tmp_path.iterdir()) == [released]


def test_a_checkpoint_that_is_not_whole_leaves_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    released, output = tmp_path / "released", tmp_path / "made"
    tiny.checkpoint(released)

    def refused(sentence: str, *more: str) -> None:
        asked = ["supervisor", "assemble", "--checkpoint", str(released), "--output", str(output), *more]
        assert main(asked) == 2
        assert sentence in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == [released]

    refused("reads squares of 28 pixels; give a multiple of that, such as 112", "--image-size", "100")
    refused("There is no vocabulary 'brids'", "--vocabulary", "brids")
    (released / "model.safetensors").rename(released / "model.bin")
    refused("its weights as safetensors must be there")
    (released / "preprocessor_config.json").unlink()
    refused("preprocessor_config.json with image_mean and image_std must be there")
    (released / "chat_template.jinja").unlink()
    refused("has no chat template")
    InternVLConfig().save_pretrained(released)
    (released / "tokenizer.json").unlink()
    refused("There is no tokenizer in")
