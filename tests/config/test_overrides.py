"""`--set`, `--data` and presets come out as checked settings, or as one sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_ray.config.overrides import apply, parse_value, resolve, resolve_alignment
from saga_ray.errors import UserError


@pytest.fixture
def preset(tmp_path: Path) -> str:
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\n[train]\nsteps = 7\n[grpo]\nweight = 0.5\n')
    return str(file)


def sentence(*overrides: str, preset: str, data: str | None = None) -> str:
    with pytest.raises(UserError) as caught:
        resolve(preset, overrides, data)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_then_file_then_overrides(preset: str) -> None:
    settings = resolve(preset, ["grpo.weight=0.25", "seed=3"])
    assert (settings.train.steps, settings.grpo.weight, settings.seed) == (7, 0.25, 3)
    assert settings.rollout.group_size == 8


def test_the_last_override_of_a_setting_wins(preset: str) -> None:
    assert resolve(preset, ["train.steps=1", "train.steps=2"]).train.steps == 2


@pytest.mark.parametrize(
    "text, value",
    [
        ("1", 1),
        ("2e-5", 2e-5),
        ("true", True),
        ('"quoted"', "quoted"),
        ("bare", "bare"),
        ("multi_similarity", "multi_similarity"),
        ("a/path with spaces.csv", "a/path with spaces.csv"),
        ("[start, saga]", ["start", "saga"]),
        ('["start", "saga"]', ["start", "saga"]),
        ("[]", []),
        ("{rollout = 1}", {"rollout": 1}),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_values_are_toml_and_bare_words_are_text(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert parsed == value and type(parsed) is type(value)


def test_text_settings_take_what_was_typed(preset: str) -> None:
    assert resolve(preset, ["name=42"]).name == "42"
    assert resolve(preset, ["data.source=true"]).data.source == "true"


def test_none_empties_only_what_may_be_none(preset: str) -> None:
    assert resolve(preset, ["encoder.embedding_size=64"]).encoder.embedding_size == 64
    assert resolve(preset, ["encoder.embedding_size=none"]).encoder.embedding_size is None
    assert resolve(preset, ["grpo.advantage_std=none"]).grpo.advantage_std == "none"
    assert "whole number" in sentence("train.steps=none", preset=preset)


def test_a_table_is_set_whole_or_by_key(preset: str) -> None:
    assert resolve(preset, ["rollout.resources={rollout = 1}"]).rollout.resources == {"rollout": 1.0}
    assert resolve(preset, ["metric.options.alpha=16", "metric.options.beta=2"]).metric.options == {
        "alpha": 16,
        "beta": 2,
    }


@pytest.mark.parametrize(
    "override, meant",
    [
        ("grpo.wieght=1", "grpo.weight"),
        ("rollout.groupsize=4", "rollout.group_size"),
        ("group_size=4", "rollout.group_size"),
        ("grpo.temperature=1", "rollout.temperature"),
        ("optimiser.tower_rate=1", "optimizer.tower_rate"),
        ("optimiser.tower_rat=1", "optimizer.tower_rate"),
        ("sead=2", "seed"),
    ],
)
def test_an_unknown_setting_is_named_with_the_nearest(preset: str, override: str, meant: str) -> None:
    message = sentence(override, preset=preset)
    assert override.partition("=")[0] in message and f"--set {override}" in message
    assert f"did you mean {meant!r}?" in message


def test_every_section_that_has_the_setting_is_offered(preset: str) -> None:
    assert "'grpo.weight' or 'distillation.weight' or 'metric.weight'" in sentence("weight=1", preset=preset)


def test_nothing_near_lists_the_section(preset: str) -> None:
    assert "optimizer has tower_rate, pooler_rate" in sentence("optimizer.zzz=1", preset=preset)


def test_an_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "typo.toml"
    file.write_text("[rollout]\ngroupsize = 4\n")
    message = sentence(preset=str(file))
    assert str(file) in message and "'rollout.group_size'" in message


@pytest.mark.parametrize(
    "override, words",
    [
        ("train.steps=many", ["train.steps = 'many'", "a whole number of at least 1"]),
        ("train.steps=0", ["train.steps = 0", "of at least 1"]),
        ("rollout.top_p=1.5", ["above 0 and at most 1"]),
        ("encoder.pooling=median", ["one of attention, mean"]),
        ("rollout.engine=vlm", ["rollout.engine = 'vlm'", "transformers, vllm"]),
        ("data.flip=perhaps", ["true or false"]),
        ("metric.options.alpha=large", ["metric.options", "'alpha'", "a table of numbers"]),
        ("arms=start", ["a list of texts"]),
        ("arms=[]", ["arms = []", "a list of texts, at least 1"]),
        ("seed=3000000000", ["a whole number of at least 0 and at most 2147483647"]),
        ("seed=-1", ["of at least 0"]),
        ("arms=[start,equal-compute]", ["add saga"]),
        ("arms=[start,sagas]", ["'sagas' is not an arm", "shuffled-labels"]),
        ("train.workers=3", ["train.workers=3 does not divide data.blocks=2"]),
        ("metric.loss=infonca", ["metric.loss = 'infonca'", "infonce"]),
        ("data=pictures", ["names a section", "data.<setting>"]),
        ("train.steps", ["has no value", "--set name=value"]),
    ],
)
def test_a_wrong_value_says_where_and_what_is_allowed(preset: str, override: str, words: list[str]) -> None:
    message = sentence(override, preset=preset)
    assert all(word in message for word in [*words, f"--set {override}"]), message


def test_a_wrong_value_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text("train = 3\n")
    assert f"'train' in {file} is a section" in sentence(preset=str(file))
    file.write_text("[train]\nsteps = -1\n")
    assert f"train.steps = -1 in {file}" in sentence(preset=str(file))
    file.write_text("[train\n")
    assert f"{file} is not TOML" in sentence(preset=str(file))
    file.write_bytes(b'name = "\xff"\n')
    assert f"{file} is not TOML" in sentence(preset=str(file))


def test_a_tables_key_on_something_else_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "odd.toml"
    file.write_text("rollout = 3\n")
    assert "'rollout' in the file is not a table" in sentence("rollout.group_size=4", preset=str(file))


def test_own_data_brings_the_three_arms(preset: str, tmp_path: Path) -> None:
    settings = resolve(preset, ["arms=[grpo]"], str(tmp_path))
    assert settings.arms == ["grpo"], "an override says otherwise"
    assert resolve(preset, [], str(tmp_path)).arms == ["start", "metric", "saga"]
    assert resolve(preset, [], str(tmp_path)).data.source == str(tmp_path)


def test_own_data_may_be_given_relative_to_here(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pictures").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve(preset, [], "pictures").data.source == str(tmp_path / "pictures")


def test_missing_own_data_is_refused(preset: str) -> None:
    assert "--data no/such/folder" in sentence(preset=preset, data="no/such/folder")
    assert "did you mean the data set 'furniture'?" in sentence(preset=preset, data="furnitur")


def test_the_settings_of_a_supervisors_training(preset: str) -> None:
    assert resolve_alignment(["steps=12"]).steps == 12
    with pytest.raises(UserError, match=r"unknown setting 'stepz' in --set stepz=1; did you mean 'steps'\?"):
        resolve_alignment(["stepz=1"])
    with pytest.raises(UserError, match="multiple of 2 x heads"):
        resolve_alignment(["heads=3"])
    with pytest.raises(UserError, match="at most 2147483647"):
        resolve_alignment(["seed=3000000000"])


def test_apply_says_which_setting_it_set() -> None:
    values: dict[str, object] = {}
    assert apply(values, " rollout.resources.rollout = 1 ") == "rollout.resources"
    assert values == {"rollout": {"resources": {"rollout": 1}}}
