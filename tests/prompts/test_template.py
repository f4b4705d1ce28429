"""Instructions and vocabularies: what a supervisor is asked, and which vocabularies are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saga_ray.errors import UserError
from saga_ray.prompts import vocabulary as vocabularies
from saga_ray.prompts.template import STYLES, instruction

GOOD = {
    "expert": "botanist",
    "what": "flowers",
    "item": "flower",
    "example": "red, five petals",
    "verdict_question": "the same flower?",
    "verdict_key": "same_flower",
    "attributes": ["colour", "petals"],
}


def write(folder: Path, **changes: object) -> Path:
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not None}
    path = folder / "flowers.toml"
    path.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in content.items()))
    return path


def test_the_papers_vocabularies_have_the_papers_sizes_and_keys() -> None:
    expected = {"birds": (28, "same_species"), "cars": (17, "same_model"), "aircraft": (17, "same_variant")}
    for name, (count, key) in expected.items():
        words = vocabularies.load(name)
        assert (len(words.attributes), words.verdict_key) == (count, key)
    assert set(expected) | {"furniture"} == set(vocabularies.names())


@pytest.mark.parametrize("name", vocabularies.names())
def test_the_attribute_instruction_names_every_attribute_and_the_keys_in_order(name: str) -> None:
    words = vocabularies.load(name)
    text = instruction(words, "attributes")
    assert all(attribute in text for attribute in words.attributes)
    assert (
        words.expert in text
        and words.what in text
        and words.example in text
        and words.verdict_question in text
    )
    skeleton = text.splitlines()[-1]
    keys = (*words.item_keys, "differences", "confidence", "reasoning", words.verdict_key)
    at = [skeleton.index(f'"{key}":') for key in keys]
    assert at == sorted(at) and len(set(at)) == 6


def test_the_generic_instruction_tells_neither_role_nor_attributes() -> None:
    words = vocabularies.load("birds")
    text = instruction(words, "generic")
    assert "ornithologist" not in text and "bill" not in text and "_1" not in text
    assert text.index("differences") < text.index("reasoning") < text.index("same_species")


def test_styles_are_those_of_the_settings() -> None:
    from saga_ray.config.settings import SupervisorSettings

    for style in STYLES:
        assert SupervisorSettings(prompt=style).prompt == style


def test_an_aircraft_expert_is_introduced_with_the_right_article() -> None:
    assert "assist an aviation expert" in instruction(vocabularies.load("aircraft"), "attributes")
    assert "assist a furniture expert" in instruction(vocabularies.load("furniture"), "attributes")


def test_a_users_vocabulary_is_read_from_its_file(tmp_path: Path) -> None:
    words = vocabularies.load(write(tmp_path))
    assert (
        words.name == "flowers"
        and words.item_keys == ("flower_1", "flower_2")
        and words.attributes == ("colour", "petals")
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"expert": None}, "expert is missing"),
        ({"colour": "red"}, "no field 'colour'"),
        ({"expert": ""}, "expert must be one line"),
        ({"item": "my flower"}, "becomes a JSON key"),
        ({"verdict_key": "differences"}, "already has a key"),
        ({"verdict_key": "flower_1"}, "already has a key"),
        ({"attributes": []}, "names no attributes"),
        ({"attributes": ["colour", "colour"]}, "stands in it twice"),
        ({"attributes": ['col"our']}, "not a plain name"),
        ({"attributes": "colour"}, "must be a list"),
    ],
)
def test_a_vocabulary_that_does_not_fit_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        vocabularies.load(write(tmp_path, **changes))
    assert "\n" not in str(caught.value) and "flowers" in str(caught.value)


def test_an_unknown_vocabulary_and_attribute_name_their_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'birds'"):
        vocabularies.load("bird")
    with pytest.raises(UserError, match="did you mean 'colour'"):
        vocabularies.load("furniture").restrict(["category", "color"])
    assert vocabularies.load("furniture").restrict(["colour", "kind"]).attributes == ("colour", "kind")


def test_a_missing_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        vocabularies.load(tmp_path / "none.toml")
    (tmp_path / "broken.toml").write_text("expert = ")
    with pytest.raises(UserError, match="not a TOML file"):
        vocabularies.load(tmp_path / "broken.toml")
