"""The Idefics3 family against transformers' own whole forward, on tiny random models, in float64."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Idefics3Processor

from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors._assemble import of_checkpoint
from saga_ray.models.supervisors.idefics3 import load
from saga_ray.prompts.template import Style
from tests.models.supervisors import projected
from tests.models.supervisors import tiny_idefics3 as tiny
from tests.models.supervisors.projected import Pair
from tests.models.supervisors.tiny_idefics3 import IDEFICS3, SMOLVLM

CASES = {"Idefics3": (IDEFICS3, IDEFICS3.pixels), "SmolVLM, other size": (SMOLVLM, 96)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {name: tiny.pair(tmp_path_factory.mktemp("idefics3"), *kind) for name, kind in CASES.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, made: dict[str, Pair]) -> Pair:
    return made[request.param]


# The seam


def test_tokens_are_what_the_language_model_gets(case: Pair) -> None:
    projected.check_tokens(case)


def test_the_tower_comes_fresh_and_trainable_and_is_stored_exactly(case: Pair, tmp_path: Path) -> None:
    projected.check_tower_is_fresh_and_stored(case, tmp_path)


@pytest.mark.parametrize("size", [96, 224, 61])
def test_pictures_are_prepared_as_the_models_own_processor_does(case: Pair, size: int) -> None:
    projected.check_preparation(case, tiny.processor(case.size), size)


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_are_those_of_the_models_own_processor(case: Pair, style: Style) -> None:
    """SmolVLM's needs torchvision for videos, and writes a picture alike."""
    processor = Idefics3Processor(
        image_processor=tiny.processor(case.size),
        tokenizer=copy.deepcopy(case.supervisor.tokenizer),  # to which it adds tokens
        image_seq_len=case.side**2,
    )
    projected.check_token_ids(case, style, processor)


def test_engines_get_the_same_prompt(case: Pair) -> None:
    projected.check_engine_prompts(case)


# Replay


def test_replay_equals_the_whole_model_from_the_pixels(case: Pair) -> None:
    projected.check_replay(case, shared_prefix=True)


def test_greedy_answers_are_the_whole_models(case: Pair) -> None:
    projected.check_greedy_answers(case)


def test_no_weight_gets_a_gradient(case: Pair) -> None:
    projected.check_frozen(case, tiny.LAYERS)


# Composed retrieval


@pytest.mark.parametrize("ended", [False, True])
def test_the_embedder_reads_the_whole_models_last_state(case: Pair, ended: bool) -> None:
    projected.check_embedder(case, ended)


# Folders


@pytest.mark.parametrize("name", CASES)
def test_a_checkpoint_is_split_unchanged(name: str, tmp_path: Path) -> None:
    kind, size = CASES[name]
    whole = tiny.checkpoint(tmp_path / "released", kind)
    of_checkpoint(tmp_path / "released", tmp_path / "made", None, size)
    assert json.loads((tmp_path / "made" / "supervisor.json").read_text()) == {
        "family": "idefics3",
        "name": "made",
        "image_token": "<image>",
        "image_marks": ["<fake_token_around_image><global-img>", "<fake_token_around_image>"],
        "end": "<end_of_utterance>",
        "vocabulary": None,
    }
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "language_model", dtype="auto")
    for part, value in whole.model.text_model.state_dict().items():
        assert torch.equal(stored.model.state_dict()[part], value)
    assert torch.equal(stored.lm_head.weight, whole.lm_head.weight)
    assert (stored.lm_head.weight is stored.model.embed_tokens.weight) == kind.tied
    made = supervisors.load(tmp_path / "made")
    tower = made.build_tower().state_dict()
    theirs = whole.model.vision_model.state_dict() | whole.model.connector.state_dict()
    assert {part.partition(".")[2] for part in tower} == set(theirs)
    assert all(torch.equal(value, theirs[part.partition(".")[2]]) for part, value in tower.items())
    made.save(tmp_path, made.build_tower())
    again = load(tmp_path, "float32").build_tower().state_dict()
    assert all(torch.equal(value, tower[part]) for part, value in again.items())


def test_what_the_family_does_not_know_is_refused(tmp_path: Path) -> None:
    released = tmp_path / "released"
    tiny.checkpoint(released, SMOLVLM)

    def refused(said: str, size: int | None = 96) -> None:
        with pytest.raises(UserError, match=said):
            of_checkpoint(released, tmp_path / "made", None, size)
        assert list(tmp_path.iterdir()) == [released]

    refused("reads squares of 32 pixels; give a multiple of that, such as 96", 100)
    words = json.loads((released / "tokenizer.json").read_text())
    marks = words["added_tokens"]
    words["added_tokens"] = [mark for mark in marks if mark["content"] != "<fake_token_around_image>"]
    (released / "tokenizer.json").write_text(json.dumps(words))
    refused("has no token '<fake_token_around_image>' for pictures")
    config = json.loads((released / "config.json").read_text())
    config["text_config"]["model_type"] = "mistral"
    (released / "config.json").write_text(json.dumps(config))
    refused("of type 'mistral'; known in a checkpoint of type 'smolvlm' are llama")
