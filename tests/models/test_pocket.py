"""The pocket supervisor: its answers are JSON, its masks find what they should, its folder is an ordinary
one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.models.supervisors._pocket_scheme import AnswerScheme
from saga_ray.models.supervisors._pocket_tokenizer import EOS, PAD, SPECIAL, build_tokenizer, common_words
from saga_ray.models.supervisors.pocket import Pocket, load
from saga_ray.prompts.verdict import parse_answer

NAME = "furniture-pocket"
MAX_BYTES = 16_000_000


def ships() -> Pocket:
    if not hasattr(ships, "loaded"):
        loaded = supervisors.load(NAME)
        assert isinstance(loaded, Pocket)
        ships.loaded = loaded  # type: ignore[attr-defined]
    return ships.loaded  # type: ignore[attr-defined,no-any-return]


@pytest.fixture(scope="module")
def pocket() -> Pocket:
    return ships()


def tokens_of(pairs: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(pairs, 16, 1280, generator=generator) for _ in range(2))
    return a, b


def described(scheme: AnswerScheme, index: int) -> Mapping[str, str]:
    return {name: values[index % len(values)] for name, values in scheme.attributes.items()}


def true_answer(pocket: Pocket, i: int, j: int, same: bool) -> list[int]:
    tokens = pocket.scheme.answer(described(pocket.scheme, i), described(pocket.scheme, j), same)
    return [pocket.token_id(token) for token in [*tokens, EOS]]


# Answers


@settings(deadline=None, max_examples=50)
@given(i=st.integers(0, 50), j=st.integers(0, 50), same=st.booleans())
def test_a_true_answer_decodes_to_the_papers_json_and_back(i: int, j: int, same: bool) -> None:
    pocket = ships()
    ids = true_answer(pocket, i, j, same)
    text = pocket.decode(ids)
    answer = json.loads(text)
    assert list(answer) == ["item_1", "item_2", "differences", "same_model"]
    assert answer["item_1"] == described(pocket.scheme, i) and answer["item_2"] == described(pocket.scheme, j)
    assert answer["same_model"] == ("yes" if same else "no")
    assert parse_answer(text, pocket.verdict_key).verdict is same
    assert pocket.tokenizer.encode(text, add_special_tokens=False) == ids[:-1]
    assert pocket.tokenizer.encode(text + EOS, add_special_tokens=False) == ids
    assert len(ids) == pocket.scheme.answer_length


def test_the_summary_names_the_first_attributes_that_differ() -> None:
    scheme = AnswerScheme("item", "same", {"a": ("1", "2"), "b": ("1", "2"), "c": ("1", "2")})
    one = {"a": "1", "b": "1", "c": "1"}
    assert scheme.differences(one, one) == '"none",'
    assert scheme.differences(one, one | {"b": "2"}) == '"b",'
    assert scheme.differences(one, {"a": "2", "b": "2", "c": "2"}) == '"a, b",'


def test_values_that_json_must_escape_survive() -> None:
    scheme = AnswerScheme(
        "item", "same", {"words": ('say "hi"', "back\\slash", "ümlaut, comma"), "last": ("x",)}
    )
    tokenizer = build_tokenizer(scheme, [])
    for value in scheme.attributes["words"]:
        tokens = scheme.answer({"words": value, "last": "x"}, {"words": 'say "hi"', "last": "x"}, True)
        ids = tokenizer.convert_tokens_to_ids(tokens)
        text = tokenizer.decode(ids)
        assert json.loads(text)["item_1"]["words"] == value
        assert tokenizer.encode(text, add_special_tokens=False) == ids


def test_the_generic_answer_is_json_too(pocket: Pocket) -> None:
    tokens = pocket.scheme.generic_answer(described(pocket.scheme, 1), described(pocket.scheme, 2), False)
    answer = json.loads(pocket.decode([pocket.token_id(token) for token in tokens]))
    assert list(answer) == ["differences", "same_model"] and answer["same_model"] == "no"


# Words


@pytest.mark.parametrize(
    "text",
    [
        "the same one in red",
        "the same kind, but taller",
        "with armrests",
        "describe this image in one word:",
        'modify this image with "the same one in blue", describe modified image in one word:',
        "a tall brown wooden wardrobe with three drawers (for the bedroom)",
        "summary above sentence in one word:",
        "darker, wider and without a backrest",
    ],
)
def test_captions_and_instructions_round_trip_without_unknown_words(pocket: Pocket, text: str) -> None:
    ids = pocket.tokenizer.encode(text, add_special_tokens=False)
    assert pocket.tokenizer.unk_token_id not in ids
    assert pocket.tokenizer.decode(ids) == text


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(common_words()), min_size=1, max_size=12))
def test_every_common_word_is_known(words: list[str]) -> None:
    pocket = ships()
    text = " ".join(words)
    assert len(pocket.tokenizer.encode(text, add_special_tokens=False)) == len(words)
    assert pocket.tokenizer.decode(pocket.tokenizer.encode(text, add_special_tokens=False)) == text


def test_an_unknown_word_is_marked_and_breaks_nothing(pocket: Pocket) -> None:
    ids = pocket.tokenizer.encode("a xyzzyq chair", add_special_tokens=False)
    assert len(ids) == 3 and ids[1] == pocket.tokenizer.unk_token_id


def test_special_tokens_are_cut_out_of_text(pocket: Pocket) -> None:
    ids = pocket.tokenizer.encode("<first><image><image> describe", add_special_tokens=False)
    assert len(ids) == 4 and all(token in pocket.tokenizer.get_vocab() for token in SPECIAL)
    assert pocket.tokenizer.pad_token == PAD and pocket.tokenizer.eos_token == EOS


# Masks


def naive_masks(pocket: Pocket, ids: list[int]) -> tuple[list[bool], list[bool]]:
    """By the texts of the tokens, one by one."""
    scheme, texts = pocket.scheme, pocket.tokenizer.convert_ids_to_tokens(ids)
    openings = (scheme.first_opening, scheme.second_opening, scheme.differences_opening)
    empty = [False] * len(ids), [False] * len(ids)
    if any(texts.count(opening) != 1 for opening in openings):
        return empty
    one, two, three = (texts.index(opening) for opening in openings)
    if not 0 == one < two < three or any(
        t not in scheme.values() for t in texts[1:two] + texts[two + 1 : three]
    ):
        return empty
    return [one < k < two for k in range(len(ids))], [two < k < three for k in range(len(ids))]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 30), st.integers(0, 30), st.booleans(), st.integers(0, 22), st.integers(0, 40)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_masks_and_verdicts_agree_with_reading_token_by_token(
    drawn: list[tuple[int, int, bool, int, int]],
) -> None:
    pocket = ships()
    answers = []
    for i, j, same, cut, broken in drawn:
        ids = true_answer(pocket, i, j, same)[: max(1, cut)]
        if broken < len(ids):  # some token stands in the wrong place
            ids[broken] = pocket.token_id(pocket.scheme.tokens()[(i + j) % len(pocket.scheme.tokens())])
        answers.append(ids)
    longest = max(map(len, answers))
    # Padding repeats a verdict: what the mask hides must not count.
    yes, no = pocket.verdict_token_ids
    tokens = torch.tensor([ids + [yes] * (longest - len(ids)) for ids in answers])
    mask = torch.tensor([[True] * len(ids) + [False] * (longest - len(ids)) for ids in answers])
    mask_a, mask_b = pocket.description_masks(tokens, mask)
    positions = pocket.verdict_positions(tokens, mask)
    for row, ids in enumerate(answers):
        expected_a, expected_b = naive_masks(pocket, ids)
        assert mask_a[row, : len(ids)].tolist() == expected_a and not mask_a[row, len(ids) :].any()
        assert mask_b[row, : len(ids)].tolist() == expected_b and not mask_b[row, len(ids) :].any()
        verdicts = [k for k, token in enumerate(ids) if token in (yes, no)]
        assert positions[row] == (verdicts[0] if verdicts else -1)


def test_a_whole_answer_describes_each_image_on_every_attribute(pocket: Pocket) -> None:
    tokens = torch.tensor([true_answer(pocket, 3, 4, True)])
    mask_a, mask_b = pocket.description_masks(tokens, torch.ones_like(tokens, dtype=torch.bool))
    count = len(pocket.scheme.attributes)
    assert mask_a.sum() == mask_b.sum() == count and not (mask_a & mask_b).any()
    assert pocket.verdict_positions(tokens, torch.ones_like(tokens, dtype=torch.bool)).tolist() == [
        2 * count + 4
    ]


# The prompt


@pytest.mark.parametrize("style", ["attributes", "generic"])
def test_the_prompt_holds_both_images_where_the_spans_say(pocket: Pocket, style: str) -> None:
    x_a, x_b = tokens_of(2)
    prompt = pocket.prompt_embeddings(x_a, x_b, style)
    assert prompt.shape == (2, 35, pocket.hidden_size)
    changed_a = (
        (pocket.prompt_embeddings(x_a + 1, x_b, style) != prompt).any(-1).all(0).nonzero()[:, 0].tolist()
    )
    changed_b = (
        (pocket.prompt_embeddings(x_a, x_b + 1, style) != prompt).any(-1).all(0).nonzero()[:, 0].tolist()
    )
    span_a, span_b = pocket.image_spans(style)
    assert changed_a == list(range(35))[span_a] and changed_b == list(range(35))[span_b]


def test_gradient_reaches_the_image_tokens_and_no_weight(pocket: Pocket) -> None:
    x_a, x_b = tokens_of(1)
    x_a.requires_grad_(True)
    x_b.requires_grad_(True)
    prompt = pocket.prompt_embeddings(x_a, x_b, "attributes")
    hidden = pocket.hidden_states(prompt, pocket.positions((), prompt.shape[1])[None])
    pocket.logits(hidden[:, -1]).log_softmax(-1)[0, 9].backward()
    assert x_a.grad is not None and x_b.grad is not None
    assert x_a.grad.abs().sum() > 0 and x_b.grad.abs().sum() > 0
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in pocket.parameters())


def test_engines_get_the_same_prompt(pocket: Pocket) -> None:
    x_a, x_b = tokens_of(3)
    prompts = pocket.engine_prompts(x_a.requires_grad_(True), x_b, "attributes")
    expected = pocket.prompt_embeddings(x_a, x_b, "attributes")
    for index, prompt in enumerate(prompts):
        assert prompt.embeds_LH is not None and not prompt.embeds_LH.requires_grad
        assert torch.equal(prompt.embeds_LH, expected[index]) and len(prompt.token_ids) == expected.shape[1]
    image = pocket.token_id("<image>")
    span_a, span_b = pocket.image_spans("attributes")
    assert [k for k, token in enumerate(prompts[0].token_ids) if token == image] == [
        *range(35)[span_a],
        *range(35)[span_b],
    ]


# Folders


def test_it_ships_small_and_loads_by_name_or_folder(pocket: Pocket) -> None:
    assert NAME in supervisors.names() and "pocket" in supervisors.families()
    files = [path for path in (supervisors.SHIPPED / NAME).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MAX_BYTES
    assert supervisors.load(supervisors.SHIPPED / NAME).name == pocket.name == NAME


def test_it_is_a_plain_transformers_model(pocket: Pocket) -> None:
    folder = pocket.folder / "language_model"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = true_answer(pocket, 1, 2, True)
    assert tokenizer.decode(ids) == pocket.tokenizer.decode(ids)
    x_a, x_b = tokens_of(1)
    prompt = pocket.prompt_embeddings(x_a, x_b, "attributes")
    out = model.generate(inputs_embeds=prompt, do_sample=False, max_new_tokens=30)
    assert json.loads(pocket.decode(out[0].tolist())).keys() == {
        "item_1",
        "item_2",
        "differences",
        "same_model",
    }


def test_bfloat16_changes_the_language_model_alone() -> None:
    half = load(supervisors.find(NAME), "bfloat16")
    assert half.language_model.dtype == torch.bfloat16 and half.projector.linear.weight.dtype == torch.float32
    assert half.prompt_embeddings(*tokens_of(1), "attributes").dtype == torch.bfloat16


def test_its_attributes_fit_the_furniture_vocabulary(pocket: Pocket) -> None:
    from saga_ray.prompts.vocabulary import load as load_vocabulary

    words = load_vocabulary("furniture")
    assert list(pocket.scheme.attributes) == list(words.attributes)
    assert (pocket.scheme.item, pocket.verdict_key) == (words.item, words.verdict_key)


def test_what_is_no_supervisor_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'furniture-pocket'"):
        supervisors.load("furniture-pockt")
    with pytest.raises(UserError, match=r"no supervisor\.json"):
        supervisors.load(tmp_path)
    (tmp_path / "supervisor.json").write_text('{"family": "unheard"}')
    with pytest.raises(UserError, match="family 'unheard'"):
        supervisors.load(tmp_path)
    (tmp_path / "supervisor.json").write_text('{"family": "pocket"}')
    with pytest.raises(UserError, match=r"projector\.safetensors is missing"):
        supervisors.load(tmp_path)
    (tmp_path / "supervisor.json").write_text("{")
    with pytest.raises(UserError, match="does not name the supervisor's family"):
        supervisors.load(tmp_path)
