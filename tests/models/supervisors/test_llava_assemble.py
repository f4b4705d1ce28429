"""`saga supervisor assemble`: what it makes, and what it refuses in one sentence with nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    LlavaForConditionalGeneration,
    Phi3Config,
)

from saga_ray.cli.command_line import main
from saga_ray.composed.embedder import Embedder
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors import _llava_assemble as assemble
from saga_ray.models.supervisors._assemble import of_checkpoint
from saga_ray.models.supervisors.llava import Llava, load
from tests.models.supervisors.tiny_llava import (
    PARTS_TEMPLATE,
    TEXT_TEMPLATE,
    TOKENS,
    checkpoint,
    description,
    language_model,
    pictures,
    tokenizer,
    vision_model,
)


def test_two_parts_become_a_supervisor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeing, writing = vision_model(tmp_path / "clip"), language_model(tmp_path / "phi")
    output = tmp_path / "made" / "phi-clip"
    parts = ["--vision", str(tmp_path / "clip"), "--language", str(tmp_path / "phi")]
    assert main(["supervisor", "assemble", *parts, "--output", str(output)]) == 0
    assert "train it before asking" in capsys.readouterr().out
    made = supervisors.load(output)
    assert isinstance(made, Llava) and (made.name, made.vocabulary) == ("phi-clip", None)
    assert description(output)["end"] == "<|end|>"
    assert made.tokenizer.convert_ids_to_tokens(made.eos_token_id) == "<|end|>"
    # the layer before last of CLIP's vision side
    tower = made.build_tower()
    states = seeing.vision_model(tower.pixels(pictures(2)), output_hidden_states=True).hidden_states
    torch.testing.assert_close(tower(pictures(2)), states[-2][:, 1:], rtol=0, atol=1e-5)
    # the language model's weights, bit by bit, in a folder that transformers reads
    stored = AutoModelForCausalLM.from_pretrained(output / "language_model", dtype="auto")
    assert stored.dtype == torch.bfloat16
    for name, value in writing.state_dict().items():
        assert torch.equal(value, stored.state_dict()[name]), name
    # the projector is the seed's
    again, other = tmp_path / "again", tmp_path / "other"
    assert main(["supervisor", "assemble", *parts, "--seed", "0", "--output", str(again)]) == 0
    assert main(["supervisor", "assemble", *parts, "--seed", "1", "--output", str(other)]) == 0
    weights = [(folder / "projector.safetensors").read_bytes() for folder in (output, again, other)]
    assert weights[0] == weights[1] != weights[2]
    # it embeds, and is asked the generic style alone
    embedder = Embedder(made)
    assert embedder(pictures(2)).shape == (2, made.hidden_size)
    assert made.answer_tokens("generic") > 10
    with pytest.raises(UserError, match="has no list of attributes"):
        made.answer_tokens("attributes")


def test_a_checkpoint_is_split_unchanged(tmp_path: Path) -> None:
    whole = checkpoint(tmp_path / "llava")
    arguments = ["--checkpoint", str(tmp_path / "llava"), "--vocabulary", "birds"]
    assert main(["supervisor", "assemble", *arguments, "--output", str(tmp_path / "made")]) == 0
    made = load(tmp_path / "made", "float32")
    assert made.verdict_key == "same_species" and made.answer_tokens("attributes") > 100
    assert description(tmp_path / "made")["end"] == "</s>"
    text = made.language_model.state_dict()
    for name, value in whole.model.language_model.state_dict().items():
        assert torch.equal(text[f"model.{name}"], value)
    assert torch.equal(text["lm_head.weight"], whole.lm_head.weight)
    assert torch.equal(made.projector.linear_2.weight, whole.model.multi_modal_projector.linear_2.weight)
    made.save(_new(tmp_path / "copy"), made.build_tower())
    copy = load(tmp_path / "copy", "float32")
    x_PND = torch.randn(1, TOKENS, 32)
    assert torch.equal(
        copy.prompt_embeddings(x_PND, x_PND, "attributes"), made.prompt_embeddings(x_PND, x_PND, "attributes")
    )


def test_tied_words_and_half_precision_survive(tmp_path: Path) -> None:
    model = checkpoint(tmp_path / "whole")
    config = model.config
    config.text_config.tie_word_embeddings = config.tie_word_embeddings = True
    tied = LlavaForConditionalGeneration(config).to(torch.float16).eval()
    tied.save_pretrained(tmp_path / "whole")
    assemble.of_checkpoint(tmp_path / "whole", tmp_path / "made", None)
    made = load(tmp_path / "made", "float32")
    head = made.language_model.get_output_embeddings().weight
    assert torch.equal(head, made.language_model.get_input_embeddings().weight)
    assert torch.equal(head, tied.lm_head.weight.float())
    pixels = made.build_tower().pixels(pictures(1))
    states = tied.float().model.vision_tower(pixels, output_hidden_states=True).hidden_states
    torch.testing.assert_close(
        made.build_tower()(pictures(1)), states[-2][:, 1:].float(), rtol=1e-5, atol=1e-5
    )


def test_a_vocabulary_of_ones_own_travels(tmp_path: Path) -> None:
    checkpoint(tmp_path / "llava")
    shipped = Path(supervisors.__file__).parents[2] / "prompts/vocabularies/cars.toml"
    own = tmp_path / "mine.toml"
    own.write_text(shipped.read_text())
    assemble.of_checkpoint(tmp_path / "llava", tmp_path / "made", str(own))
    own.unlink()
    made = load(tmp_path / "made", "float32")
    assert made.verdict_key == "same_model" and description(tmp_path / "made")["vocabulary"] == "mine.toml"
    made.save(_new(tmp_path / "copy"), made.build_tower())
    assert load(tmp_path / "copy", "float32").verdict_key == "same_model"


def _new(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vision_feature_layer": [-2, -1]}, "only one layer's"),
        ({"vision_feature_select_strategy": "full"}, "must be 'default'"),
        ({"model_type": "vipllava"}, "of type 'vipllava'; known are llava"),
        ({"model_type": "unheard"}, "names no model"),
        ({"vision_feature_layer": 9}, "has 3 layers"),
    ],
)
def test_another_kind_of_checkpoint_is_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    checkpoint(tmp_path / "llava")
    config = tmp_path / "llava" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(UserError, match=said):
        of_checkpoint(tmp_path / "llava", tmp_path / "made", None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["llava"]


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    def refused(said: str, vision: str, language: str) -> None:
        before = sorted(path.name for path in tmp_path.iterdir())
        with pytest.raises(UserError, match=said):
            assemble.of_parts(tmp_path / vision, tmp_path / language, tmp_path / "made", None, 0)
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    vision_model(tmp_path / "clip")
    language_model(tmp_path / "phi")
    refused("config.json is missing", "nowhere", "phi")
    refused("'phi3'; known are CLIP and SigLIP", "phi", "phi")
    refused("There is no tokenizer", "clip", "nowhere")
    language_model(tmp_path / "plain", template=None)
    refused("has no chat template", "clip", "plain")
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps(processor))
    refused("a clip tower normalises with", "clip", "phi")
    for crop in (336, {"height": 336, "width": 336}):
        (tmp_path / "clip" / "preprocessor_config.json").write_text(json.dumps({"crop_size": crop}))
        refused("to 336 pixels, and the vision model reads 28", "clip", "phi")


@pytest.mark.parametrize(("window", "kept"), [(4096, None), (100, 100)])
def test_a_window_that_no_text_can_leave_is_taken_away(window: int, kept: int | None, tmp_path: Path) -> None:
    vision_model(tmp_path / "clip")
    language_model(tmp_path / "phi")
    config = Phi3Config.from_pretrained(tmp_path / "phi")
    config.sliding_window = window
    config.save_pretrained(tmp_path / "phi")
    assemble.of_parts(tmp_path / "clip", tmp_path / "phi", tmp_path / "made", None, 0)
    assert supervisors.load(tmp_path / "made").language_model.config.sliding_window == kept


def test_a_bare_checkpoint_is_no_supervisor(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    (tmp_path / "supervisor.json").write_text('{"family": "llava", "name": "x"}')
    with pytest.raises(UserError, match="a supervisor of it with `saga supervisor assemble --checkpoint`"):
        supervisors.load(tmp_path)


def test_arguments_that_contradict_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["--checkpoint", "a", "--vision", "b"], "leave --vision"),
        (["--vision", "b"], "give a checkpoint with --checkpoint, or its parts"),
    ):
        assert main(["supervisor", "assemble", *arguments, "--output", str(tmp_path / "x")]) == 2
        assert said in capsys.readouterr().err
    assert main(["supervisor", "assemble", "--checkpoint", "a", "--output", str(tmp_path)]) == 2
    assert "exists; name a folder" in capsys.readouterr().err


def test_a_text_that_holds_the_placeholder_is_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path / "llava")
    for template in (PARTS_TEMPLATE, TEXT_TEMPLATE):
        words = tokenizer(template)
        chat = assemble.ChatPrompt(words, "<image>", "here")
        assert chat._in_parts == (template == PARTS_TEMPLATE)
        with pytest.raises(UserError, match="take it out"):
            chat.around("a <image> of a chair", images=1)
        assert len(chat.around("a chair", images=0)) == 1
