"""Where descriptions and the verdict stand in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.prompts.objects import members, objects
from saga_ray.prompts.spans import spans
from saga_ray.prompts.vocabulary import load

BIRDS = load("birds")
A, B = {"bill shape": "cone } {", "leg color": "grau 🐦"}, {"bill shape": "long"}
WHOLE: dict[str, Any] = {"bird_1": A, "bird_2": B, "differences": "bill", "same_species": "no"}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("around", ["{answer}", "```json\n{answer}\n```", 'Earlier: {{"a": 1}} but {answer}'])
def test_descriptions_and_verdict_are_found_wherever_they_stand(indent: int | None, around: str) -> None:
    text = around.format(answer=json.dumps(WHOLE, indent=indent, ensure_ascii=False))
    found = spans(text, BIRDS)
    assert found.descriptions is not None and found.verdict is not None
    assert [json.loads("{" + text[span] + "}") for span in found.descriptions] == [A, B]
    assert text[found.verdict :].startswith('no"')


def test_the_object_is_the_one_that_the_verdict_is_read_from() -> None:
    first, second = json.dumps(WHOLE | {"same_species": "yes"}), json.dumps(WHOLE)
    found = spans(first + second, BIRDS)
    assert found.verdict is not None and found.verdict > len(first)
    assert spans(first + second[:-4], BIRDS).verdict == first.index('yes"')


def test_what_is_lacking_is_not_found() -> None:
    assert spans("", BIRDS) == spans('{"bird_1": {"a": "b"}}', BIRDS)
    assert spans(json.dumps(WHOLE)[:-1], BIRDS).verdict is None
    for broken in ({"bird_1": "a bird"}, {"bird_2": None}):
        found = spans(json.dumps(WHOLE | broken), BIRDS)
        assert found.descriptions is None and found.verdict is not None
    true = json.dumps({"same_species": True})
    assert spans(true, BIRDS).verdict == true.index("true")


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
        max_size=4,
    ),
    st.sampled_from([None, 0, 2]),
)
def test_members_are_the_object_s(value: dict[str, Any], indent: int | None) -> None:
    text = "x" + json.dumps(value, indent=indent)
    assert {key: json.loads(text[place]) for key, place in members(text, 1).items()} == value
    assert objects(text, "") == [json.loads(text[1:], parse_int=float)]
