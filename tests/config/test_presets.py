"""Presets are found by name, near names are offered, and settings survive being written as TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.config.presets import find_preset, preset_names, to_toml
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
POSITIVE = st.floats(min_value=1e-12, max_value=1e12)


def test_the_furniture_preset_ships() -> None:
    assert "furniture" in preset_names()
    assert find_preset("furniture").name == "furniture.toml"


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.touch()
    assert find_preset(str(file)) == file


@pytest.mark.parametrize(
    "name, words",
    [
        ("furnitur", "did you mean 'furniture'?"),
        ("qqqq", "is not a preset; there are "),
        ("nowhere.toml", "there is no settings file nowhere.toml"),
        ("no/where", "there is no settings file no/where"),
    ],
)
def test_a_preset_that_is_not_there(name: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        find_preset(name)
    assert words in str(caught.value) and "furniture" in str(caught.value)


@given(name=NAMES, seed=st.integers(0, 2**31 - 1), rate=POSITIVE, resources=st.dictionaries(NAMES, POSITIVE))
def test_settings_survive_being_written(
    name: str, seed: int, rate: float, resources: dict[str, float]
) -> None:
    settings = Settings.model_validate(
        {
            "name": name,
            "seed": seed,
            "optimizer": {"tower_rate": rate},
            "rollout": {"resources": resources},
            "encoder": {"embedding_size": 64},
            "arms": ["saga"],
        }
    )
    assert Settings.model_validate(tomllib.loads(to_toml(settings))) == settings


def test_what_is_none_stands_there_as_a_comment() -> None:
    assert "# embedding_size: none\n" in to_toml(Settings())
