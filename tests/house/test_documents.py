"""What the documents promise exists: commands, targets, settings, presets, folders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import pytest

from saga_ray.cli.command_line import parser
from saga_ray.config.alignment import AlignmentSettings
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.help import sections, settings_help
from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.overrides import resolve, resolve_composed
from saga_ray.config.presets import preset_names
from saga_ray.config.serving import ServeSettings
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

README = (SOURCE_TREE / "README.md").read_text(encoding="utf-8")
CODE = re.compile(r"^```([a-z]*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
PRINTED = "text"
"""The language of a block that shows output."""


def commands(start: str) -> Iterator[list[str]]:
    """Command lines of the README's code blocks that begin with a word."""
    for language, block in CODE.findall(README):
        if language == PRINTED:
            continue
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0] == start:
                yield words


@pytest.mark.parametrize("words", list(commands("saga")), ids=" ".join)
def test_the_readmes_saga_commands_are_understood(words: list[str]) -> None:
    args = parser().parse_args(words[1:])
    if words[1] == "train" and args.preset in preset_names():
        resolve(args.preset, args.set)
    if words[1:3] == ["cir", "train"]:
        resolve_composed(args.preset, args.set)


@pytest.mark.parametrize("words", list(commands("make")), ids=" ".join)
def test_the_readmes_make_targets_exist(words: list[str]) -> None:
    makefile = (SOURCE_TREE / "Makefile").read_text()
    for target in words[1:]:
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE), target


def test_the_readme_shows_commands() -> None:
    assert ["make", "demo"] in list(commands("make"))
    assert any(words[1] == "train" for words in commands("saga"))


def test_the_readmes_folders_exist() -> None:
    for folder in re.findall(r"^(saga_ray/\w+|jobs/\w+)/", README, re.MULTILINE):
        assert (SOURCE_TREE / folder).is_dir(), folder


@pytest.mark.parametrize("model", [Settings, AlignmentSettings, ComposedSettings, ServeSettings])
def test_every_setting_says_what_it_is(model: type) -> None:
    silent = [setting.name for setting in settings_help(model).values() if len(setting.doc) < 10]
    assert not silent
    assert all(sections(model).values())


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_is_valid_and_named_after_its_file(preset: str) -> None:
    assert resolve(preset).name == preset


@pytest.mark.parametrize("preset", preset_names("cir"))
def test_so_is_every_preset_of_composed_retrieval(preset: str) -> None:
    assert resolve_composed(preset).name == preset


def test_a_preset_of_the_other_command_is_said() -> None:
    with pytest.raises(UserError, match="'furniture-cir' is a preset of `saga cir train`; those of this"):
        resolve("furniture-cir")
    with pytest.raises(UserError, match="'furniture' is a preset of `saga train`; those of this"):
        resolve_composed("furniture")


def test_make_lists_every_target_with_a_line() -> None:
    makefile = (SOURCE_TREE / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    explained = set(re.findall(r"^([a-z-]+):[^#\n]*## \S", makefile, re.MULTILINE))
    assert targets == explained >= {"demo", "test", "test-slow", "lint", "setup"}


def test_ci_runs_exactly_make_test() -> None:
    script = (SOURCE_TREE / ".ci/run").read_text()
    assert re.findall(r"^.*\bmake\b.*$", re.sub(r"^#.*$", "", script, flags=re.MULTILINE), re.MULTILINE) == [
        "exec make test </dev/null"
    ]
