"""The Gemma 3 family against transformers' own whole forward, on tiny random models, in float64."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3Processor

from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors._assemble import of_checkpoint
from saga_ray.prompts.template import Style
from tests.models.supervisors import projected
from tests.models.supervisors import tiny_gemma3 as tiny
from tests.models.supervisors.projected import Pair
from tests.models.supervisors.tiny_gemma3 import PIXELS

NARROW, WIDE = 3, 730
"""Windows in which an image's last token does not see its first, and in which a description's tokens see some
of an image's."""
CASES = {"own size, narrow window": (PIXELS, NARROW), "other size, wide window": (84, WIDE)}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {name: tiny.pair(tmp_path_factory.mktemp("gemma3"), *kind) for name, kind in CASES.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, made: dict[str, Pair]) -> Pair:
    return made[request.param]


# The seam


def test_tokens_are_what_the_language_model_gets(case: Pair) -> None:
    projected.check_tokens(case)


def test_the_tower_comes_fresh_and_trainable_and_is_stored_exactly(case: Pair, tmp_path: Path) -> None:
    projected.check_tower_is_fresh_and_stored(case, tmp_path)


@pytest.mark.parametrize("size", [PIXELS, 224, 61])
def test_pictures_are_prepared_as_the_models_own_processor_does(case: Pair, size: int) -> None:
    projected.check_preparation(case, tiny.processor(case.size), size)


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_token_ids_are_those_of_the_models_own_processor(case: Pair, style: Style) -> None:
    processor = Gemma3Processor(
        image_processor=tiny.processor(case.size),
        tokenizer=case.supervisor.tokenizer,
        image_seq_length=case.side**2,
    )
    projected.check_token_ids(case, style, processor)


def test_engines_get_the_same_prompt(case: Pair) -> None:
    projected.check_engine_prompts(case)
    supervisor = case.supervisor
    x_1ND = torch.zeros(1, case.side**2, tiny.HIDDEN, dtype=torch.float64)
    [prompt] = supervisor.engine_prompts(x_1ND, x_1ND, "generic")
    assert supervisor.engine_sequence(prompt)[1] == supervisor.image_spans("generic")


def test_a_text_with_either_mark_of_a_picture_is_refused(case: Pair) -> None:
    for mark in ("<start_of_image>", "<image_soft_token>"):
        with pytest.raises(UserError, match=f"holds {mark}, which stands for a picture"):
            case.supervisor.embedding_layout(f"put {mark} there", image=True)


# Replay


@pytest.mark.parametrize("shared_prefix", [True, False])
@pytest.mark.parametrize(("name", "layer"), [("own size, narrow window", 1), ("other size, wide window", 0)])
def test_replay_equals_the_whole_model_from_the_pixels(
    made: dict[str, Pair], name: str, layer: int, shared_prefix: bool
) -> None:
    """Layer 1 sees everything, layer 0 a window."""
    projected.check_replay(made[name], shared_prefix, layer)


def test_greedy_answers_are_the_whole_models(case: Pair) -> None:
    projected.check_greedy_answers(case)


def test_no_weight_gets_a_gradient(case: Pair) -> None:
    projected.check_frozen(case, tiny.LAYERS)


# Composed retrieval


@pytest.mark.parametrize("ended", [False, True])
def test_the_embedder_reads_the_whole_models_last_state(case: Pair, ended: bool) -> None:
    projected.check_embedder(case, ended)


# Folders


def test_a_checkpoint_is_split_unchanged(tmp_path: Path) -> None:
    whole = tiny.checkpoint(tmp_path / "released")
    of_checkpoint(tmp_path / "released", tmp_path / "made", None, None)
    assert json.loads((tmp_path / "made" / "supervisor.json").read_text()) == {
        "family": "gemma3",
        "name": "made",
        "image_token": "<image_soft_token>",
        "image_marks": ["\n\n<start_of_image>", "<end_of_image>\n\n"],
        "template_token": "<start_of_image>",
        "end": "<end_of_turn>",
        "vocabulary": None,
    }
    stored = AutoModelForCausalLM.from_pretrained(tmp_path / "made" / "language_model", dtype="auto")
    for part, value in whole.model.language_model.state_dict().items():
        assert torch.equal(stored.model.state_dict()[part], value)
    assert stored.lm_head.weight is stored.model.embed_tokens.weight
    assert stored.config.sliding_window == 40
    tower = supervisors.load(tmp_path / "made").build_tower()
    assert (tower.image_size, tower.tokens_per_image) == (224, 64), "224 pixels are 224 pixels"
    ours = tower.state_dict()
    theirs = whole.model.vision_tower.state_dict() | whole.model.multi_modal_projector.state_dict()
    assert {part.partition(".")[2] for part in ours} == set(theirs)
    assert all(torch.equal(value, theirs[part.partition(".")[2]]) for part, value in ours.items())


@pytest.mark.parametrize(
    ("part", "change", "said"),
    [
        ("text_config", {"use_bidirectional_attention": True}, "has use_bidirectional_attention=True"),
        ("text_config", {"final_logit_softcapping": 30.0}, "has final_logit_softcapping=30"),
        (None, {"mm_tokens_per_image": 9}, "has 9 tokens for 4 x 4 patches: a token would be no square"),
    ],
)
def test_what_replay_does_not_know_is_refused(
    part: str | None, change: dict[str, object], said: str, tmp_path: Path
) -> None:
    released = tmp_path / "released"
    tiny.checkpoint(released)
    config = json.loads((released / "config.json").read_text())
    (config[part] if part else config).update(change)
    (released / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        of_checkpoint(released, tmp_path / "made", None, PIXELS)
    assert list(tmp_path.iterdir()) == [released]
