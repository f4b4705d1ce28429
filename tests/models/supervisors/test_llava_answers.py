"""Answers that a LLaVA supervisor writes freely: which tokens describe which picture; the verdict."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.models.supervisors._written_answer import WrittenAnswer
from saga_ray.prompts.objects import located, members
from saga_ray.prompts.verdict import parse_answer
from tests.models.supervisors.tiny_llava import ANSWER, TEXT_TEMPLATE, tokenizer

KEYS, VERDICT = ("bird_1", "bird_2"), "same_species"
TOKENIZER = tokenizer(TEXT_TEMPLATE)
READER = WrittenAnswer(TOKENIZER, KEYS, VERDICT)


def masks_of(text: str) -> tuple[list[int], list[bool], list[bool], int]:
    """Token ids of a text after two padded answers, its masks and its verdict's place."""
    ids = TOKENIZER.encode(text, add_special_tokens=False) + [1]
    tokens_GT = torch.tensor([ids + [READER.verdict_token_ids[0]] * 3] * 2)
    mask_GT = torch.tensor([[True] * len(ids) + [False] * 3, [True] * 5 + [False] * (len(ids) - 2)])
    a_GT, b_GT = READER.description_masks(tokens_GT, mask_GT)
    verdict_G = READER.verdict_positions(tokens_GT, mask_GT)
    assert not (a_GT[1].any() or b_GT[1].any() or a_GT[:, len(ids) :].any() or b_GT[:, len(ids) :].any())
    assert verdict_G[1] == -1
    return ids, a_GT[0, : len(ids)].tolist(), b_GT[0, : len(ids)].tolist(), int(verdict_G[0])


def shown(ids: list[int], mask: list[bool]) -> str:
    return TOKENIZER.decode([token for token, chosen in zip(ids, mask, strict=True) if chosen])


@pytest.mark.parametrize("before", ["", 'Look: {"bird_1": {}} no, ', "```json\n", "ü {"])
def test_masks_hold_what_stands_inside_the_descriptions(before: str) -> None:
    ids, a, b, verdict = masks_of(before + ANSWER + "```")
    # A token across the edge is left out, so punctuation there may be missing.
    inside = [ANSWER.split(f'"{key}": ')[1].split("}")[0][1:] for key in KEYS]
    for mask, whole in zip((a, b), inside, strict=True):
        found = shown(ids, mask)
        assert found in whole and len(whole) - len(found) <= 3 and len(found) > 20
    assert not any(x and y for x, y in zip(a, b, strict=True))
    assert ids[verdict] == READER.verdict_token_ids[1]
    assert READER.pieces(ids)[verdict].lstrip('"').startswith("no"[:1])


@pytest.mark.parametrize(
    "text",
    [
        ANSWER[:-1],  # cut off
        ANSWER.replace('"bird_2"', '"bird_3"'),
        ANSWER.replace("same_species", "same"),
        "nothing at all",
        ANSWER + ' {"same_species": "maybe"}',  # the last word counts, and it describes nothing
    ],
)
def test_a_malformed_answer_describes_nothing(text: str) -> None:
    _, a, b, _ = masks_of(text)
    assert not any(a) and not any(b)


@pytest.mark.parametrize(("said", "found"), [("yes", True), ("no", True), ("maybe", False), (" yes", False)])
def test_only_a_plain_verdict_is_one(said: str, found: bool) -> None:
    ids, _, _, verdict = masks_of(ANSWER.replace('"no"}', f'"{said}"}}'))
    assert (verdict >= 0) == found
    if found:
        assert ids[verdict] == READER.verdict_token_ids[said == "no"]
    ids, _, _, verdict = masks_of(ANSWER.replace('"no"}', "true}"))
    assert verdict == -1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 439), max_size=40))
def test_the_pieces_of_any_tokens_are_their_text(ids: list[int]) -> None:
    """Broken bytes included: nothing fails, and whole characters are all there."""
    pieces = READER.pieces(ids)
    assert len(pieces) == len(ids)
    text = TOKENIZER.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if "\ufffd" not in text:
        assert "".join(pieces) == text
    READER._read_answer(tuple(ids))


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet='aé—"\\ {}:,\n', max_size=30), st.sampled_from(["yes", "no"]))
def test_spans_are_the_values(words: str, said: str) -> None:
    answer = {"bird_1": {"a": words}, words: 1.5, "bird_2": words, VERDICT: said}
    text = f"x {json.dumps(answer, ensure_ascii=False, indent=1)} y"
    ((start, found),) = located(text, VERDICT)
    spans = members(text, start)
    assert {key: json.loads(text[begin:end]) for key, (begin, end) in spans.items()} == found
    assert parse_answer(text, VERDICT).verdict is (said == "yes")
