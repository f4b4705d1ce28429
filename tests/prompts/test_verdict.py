"""The answer parser: what it accepts, what it refuses, and that nothing makes it fail."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.prompts.verdict import parse_answer

KEY = "same_species"
ANSWER = {
    "bird_1": {"bill shape": "short, cone-shaped {stout}", "wing color": "grey"},
    "bird_2": {"bill shape": 'long, "dagger"', "wing color": "brown"},
    "differences": "bill; wings",
    "confidence": "high",
    "reasoning": "The bills differ.",
    KEY: "no",
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ANSWER),
        json.dumps(ANSWER, indent=2),
        f"```json\n{json.dumps(ANSWER)}\n```",
        f"Let me look {{closely}}.\n{json.dumps(ANSWER)}\nHope that helps {{:-)}}",
        json.dumps(ANSWER).replace("The bills", "The\nbills"),
    ],
    ids=["plain", "indented", "fenced", "text around", "line break in a string"],
)
def test_the_object_is_found_whatever_stands_around_it(text):
    answer = parse_answer(text, KEY)
    assert answer.verdict is False and answer.valid_json
    assert answer.payload["bird_1"] == ANSWER["bird_1"]


@pytest.mark.parametrize(
    "value, verdict",
    [
        ("yes", True),
        ("Yes", True),
        (" YES. ", True),
        ("NO", False),
        ("true", True),
        (True, True),
        (False, False),
        ("maybe", None),
        ("yes and no", None),
        ("", None),
        (1, None),
        (None, None),
        ({"answer": "yes"}, None),
        (["yes"], None),
    ],
)
def test_verdicts_are_yes_and_no_in_any_case_or_booleans(value, verdict):
    answer = parse_answer(json.dumps({"reasoning": "x", KEY: value}), KEY)
    assert answer.verdict is verdict and answer.valid_json


def test_a_truncated_answer_is_unparsable_wherever_it_is_cut():
    whole = json.dumps(ANSWER)
    for cut in range(len(whole)):
        answer = parse_answer(whole[:cut], KEY)
        assert answer.verdict is None and not answer.valid_json, whole[:cut]


def test_a_verdict_inside_a_truncated_or_broken_object_is_none():
    assert parse_answer('{"bird_1": {"same_species": "yes"}, "bird_2": {"a"', KEY).verdict is None
    assert parse_answer('{"bird_1": {"same_species": "yes"} "bird_2": {"a": 1}}', KEY).verdict is None


def test_a_broken_object_is_not_valid_json():
    missing_comma = '{"bird_1": {"a": "b"} "bird_2": {"c": "d"}, "same_species": "yes"}'
    answer = parse_answer(missing_comma, KEY)
    assert answer.verdict is None and not answer.valid_json


def test_the_last_object_with_the_verdict_wins():
    first, last = json.dumps({KEY: "yes"}), json.dumps({KEY: "no"})
    assert parse_answer(f"{first} No, wait: {last}", KEY).verdict is False
    assert parse_answer(f'{first} {{"note": "done"}}', KEY).verdict is True
    assert parse_answer(f"{first} and now {last[:-3]}", KEY).verdict is True


def test_an_object_without_the_verdict_is_json_but_no_verdict():
    answer = parse_answer('{"differences": "none", "same_model": "yes"}', KEY)
    assert answer.verdict is None and answer.payload == {"differences": "none", "same_model": "yes"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yes",
        "same_species: yes",
        '["same_species", "yes"]',
        "{" * 5000,
        '{"a":' * 5000,
        '{"a":' + "9" * 5000 + "}",
    ],
    ids=["empty", "word", "no json", "array", "braces", "nested", "long number"],
)
def test_what_holds_no_verdict_is_none(text):
    assert parse_answer(text, KEY).verdict is None


@given(st.text())
def test_no_string_makes_it_fail(text):
    parse_answer(text, KEY)


@given(st.text(alphabet="{}[]\":,\\ \nytruefalsn'`0-9.eE" + "\ud800", max_size=80))
def test_no_near_json_makes_it_fail(text):
    parse_answer('{"' + KEY + '": ' + text, KEY)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text().filter(lambda key: key != KEY), JSON), st.booleans(), st.text("abc .\n`"))
def test_any_whole_object_with_a_verdict_is_read(payload, verdict, around):
    text = around + json.dumps({**payload, KEY: "yes" if verdict else "no"}) + around
    assert parse_answer(text, KEY).verdict is verdict
