"""Settings of composed retrieval: what does not fit together is one sentence."""

from __future__ import annotations

import tomllib

import pytest

from saga_ray.config.composed import ComposedSettings
from saga_ray.config.overrides import resolve_composed
from saga_ray.config.presets import to_toml
from saga_ray.errors import UserError


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.workers=5"], "train.workers=5 does not divide align.batch"),
        (["instruct.image_weight=0", "instruct.caption_weight=0"], "are both 0: stage 2 would learn nothing"),
        (["align.steps=0", "instruct.steps=0"], "there is nothing to train"),
        (["embedder.width=64", "embedder.nested_sizes=[128]"], "has more than embedder.width=64"),
        (
            ["instruct.temprature=0.1"],
            "did you mean 'align.temperature' or 'instruct.temperature'|temperature",
        ),
        (["align.batch=1"], "align.batch = 1 in --set align.batch=1 is not allowed"),
        (["seed=3000000000"], "at most 2147483647"),
    ],
)
def test_what_does_not_fit_is_said(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        resolve_composed("furniture-cir", overrides)


def test_settings_are_read_back_from_toml() -> None:
    settings = resolve_composed("furniture-cir", ["embedder.nested_sizes=[64,128]", "seed=7"])
    assert ComposedSettings.model_validate(tomllib.loads(to_toml(settings))) == settings


def test_data_of_one_s_own_takes_the_place_of_the_preset_s() -> None:
    assert resolve_composed("furniture-cir", [], "/pictures").data.source == "/pictures"
