"""Answers that a supervisor writes freely: which tokens describe which picture, which one is the verdict."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saga_ray.models.supervisors._written import WrittenAnswers
from saga_ray.prompts import vocabulary
from tests.models.supervisors.tiny_llava import ANSWER, TEXT_TEMPLATE, tokenizer

BIRDS = vocabulary.load("birds")
TOKENIZER = tokenizer(TEXT_TEMPLATE)
READER = WrittenAnswers(TOKENIZER, BIRDS)


def masks_of(text: str) -> tuple[list[int], list[bool], list[bool], int]:
    """Token ids of a text after two padded answers, its masks and its verdict's place."""
    ids = TOKENIZER.encode(text, add_special_tokens=False) + [1]
    tokens_GT = torch.tensor([ids + [READER.verdicts[0]] * 3] * 2)
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
    inside = [ANSWER.split(f'"{key}": ')[1].split("}")[0][1:] for key in BIRDS.item_keys]
    for mask, whole in zip((a, b), inside, strict=True):
        found = shown(ids, mask)  # with a token's punctuation beyond the edge
        assert whole in found and len(found) - len(whole) <= 5 and len(whole) > 20
    assert not any(x and y for x, y in zip(a, b, strict=True))
    assert ids[verdict] == READER.verdicts[1]
    assert TOKENIZER.decode(ids[verdict]).lstrip('"').startswith("n")


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
        assert ids[verdict] == READER.verdicts[said == "no"]
    ids, _, _, verdict = masks_of(ANSWER.replace('"no"}', "true}"))
    assert verdict == -1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 439), max_size=40))
def test_no_tokens_fail(ids: list[int]) -> None:
    """Broken bytes included."""
    tokens_GT = torch.tensor([ids], dtype=torch.long)
    mask_GT = torch.ones_like(tokens_GT, dtype=torch.bool)
    a_GT, b_GT = READER.description_masks(tokens_GT, mask_GT)
    assert a_GT.shape == b_GT.shape == mask_GT.shape
    assert READER.verdict_positions(tokens_GT, mask_GT).tolist() == [-1]


@settings(deadline=None, max_examples=60)
@given(st.text(alphabet='aé—"\\ {}:,\n', max_size=30))
def test_whatever_words_describe_they_are_found(words: str) -> None:
    answer = {"bird_1": {"bill": words}, words: 1.5, "bird_2": {words: "x"}, "same_species": "no"}
    _, a, b, verdict = masks_of(f"x {json.dumps(answer, ensure_ascii=False, indent=1)} y")
    assert any(a) and any(b) and verdict >= 0
