"""The parser of edits: what it takes, why it drops, and that nothing makes it fail or gives a blank."""

from __future__ import annotations

import json

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from saga_ray.prompts.edits import ASPECTS, CAPTION, EXAMPLES, INSTRUCTION, Edit, messages, parse, schema

ORIGINAL = "A red chair in front of a window."
GOOD = Edit("paint it blue", "A blue chair in front of a window.")


def answer(instruction: object = GOOD.instruction, caption: object = GOOD.caption) -> str:
    return json.dumps({INSTRUCTION: instruction, CAPTION: caption})


@pytest.mark.parametrize(
    "text",
    [
        answer(),
        f"Sure! Here is the edit:\n```json\n{answer()}\n```\nI hope {{that}} helps.",
        f"<think>{answer('x', 'y')} or rather</think>{answer()}",
        answer("paint\n  it blue ", f" {GOOD.caption}"),
        f'{{"{INSTRUCTION}": oops}} {answer()}',
        json.dumps({"note": 1} | json.loads(answer())),
    ],
    ids=["plain", "text around", "thought first", "white space", "a broken one first", "another key"],
)
def test_the_edit_is_found_whatever_stands_around_it(text: str) -> None:
    assert parse(text, ORIGINAL) == GOOD


@pytest.mark.parametrize(
    "text, reason",
    [
        ("", "no JSON answer"),
        ("paint it blue: A blue chair", "no JSON answer"),
        (answer()[:-2], "no JSON answer"),
        (json.dumps({INSTRUCTION: "paint it"}), "no JSON answer"),
        (json.dumps([GOOD.instruction, GOOD.caption]), "no JSON answer"),
        ("{" * 5000 + '"a":' * 5000, "no JSON answer"),
        (answer(" \u200b ... "), "blank"),
        (answer(caption=None), "blank"),
        (answer(instruction=["paint it"]), "blank"),
        (answer(caption="\ud800"), "blank"),
        (answer("a RED chair, in front of the window"), "the instruction is a caption"),
        (answer(GOOD.caption), "the instruction is a caption"),
        (answer(caption="Red chair in front of window"), "nothing changed"),
        (answer("blue " * 60), "too long"),
        (answer(caption="blue " * 60), "too long"),
        (answer(caption=EXAMPLES[0][3]), "copied"),
    ],
)
def test_useless_answers_are_dropped_for_a_reason(text: str, reason: str) -> None:
    assert parse(text, ORIGINAL) == reason


def test_the_caption_of_an_example_may_be_asked_about_and_answered_otherwise() -> None:
    shown, _, instruction, _ = EXAMPLES[0]
    assert parse(answer(instruction, "two cows graze"), shown) == Edit(instruction, "two cows graze")


TEXT = st.text(st.characters() | st.sampled_from(['"', "{", "}", "\\", "\ud800", "\x00", "\u2028"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT | st.sampled_from([INSTRUCTION, CAPTION]), inner),
    max_leaves=6,
)
ANSWERS = st.builds(
    lambda before, value, after: before + json.dumps(value) + after,
    TEXT,
    JSON | st.fixed_dictionaries({INSTRUCTION: JSON, CAPTION: JSON}),
    TEXT,
)


@given(TEXT | ANSWERS, TEXT)
@example('{"instruction": "a", "modified_caption": "b", "n": 1e999}', "")
@example('{"modified_caption": ' + "9" * 5000 + ', "instruction": 1}', "")
def test_no_answer_fails_and_no_edit_has_a_blank(text: str, caption: str) -> None:
    found = parse(text, caption)
    if isinstance(found, Edit):
        for part in (found.instruction, found.caption):
            assert part == part.strip() and any(letter.isalnum() for letter in part)
            assert "\n" not in part and part.encode("utf-8")
        assert found.caption != caption != found.instruction


def test_the_examples_are_answers_that_the_parser_and_the_schema_take() -> None:
    chat = messages(ORIGINAL, ASPECTS[0])
    assert [turn["role"] for turn in chat] == ["user", "assistant"] * len(EXAMPLES) + ["user"]
    assert ORIGINAL in chat[-1]["content"] and ASPECTS[0] in chat[-1]["content"]
    for turn, (shown, aspect, instruction, edited) in zip(chat[1::2], EXAMPLES, strict=False):
        jsonschema.validate(json.loads(turn["content"]), schema())
        assert aspect in ASPECTS
        assert parse(turn["content"], shown) == "copied"  # all else about it is right
        assert parse(turn["content"].replace(edited, edited + " again"), shown) == Edit(
            instruction, edited + " again"
        )


def test_braces_in_a_caption_are_text() -> None:
    assert "a {red} chair" in messages("a {red} chair", ASPECTS[1])[-1]["content"]
