"""Short files, no addresses of registries or machines, a top level that one can take in."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from saga_ray.config.names import SOURCE_TREE
from tests.house.files import FILES, FOLDERS, own_files, python_files, relative, text_files

LONGEST = 400
CPU_WHEELS = "https://download." + "pytorch.org/whl/cpu"
# Written in pieces, so that this file does not find itself.
ADDRESSES = re.compile(
    r"https?://[^\s\"'`)>]*(?:py" + r"pi|pythonh" + r"osted|/sim" + r"ple\b|download\.py" + r"torch)"
    r"|file:///" + r"[a-z]|(?<![\w.~])/(?:wo" + r"rk|ro" + r"ot|op" + r"t)/"
)


def test_files_are_short() -> None:
    long = {
        relative(path): count
        for path in python_files()
        if (count := len(path.read_text().splitlines())) > LONGEST
    }
    assert not long


def test_no_address_of_a_registry_or_of_a_machine() -> None:
    found = [
        f"{relative(path)}:{number}: {line.strip()[:120]}"
        for path in text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if ADDRESSES.search(line.replace(CPU_WHEELS, "") if relative(path) == ".ci/setup.sh" else line)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "line",
    [
        "index-url = https://py" + "pi.example.org/sim" + "ple",
        "--find-links /op" + "t/wheels",
        "cd /wo" + "rk/main",
        CPU_WHEELS,
    ],
)
def test_an_address_would_be_noticed(line: str) -> None:
    assert ADDRESSES.search(line)


def test_the_top_level_can_be_taken_in() -> None:
    listed = subprocess.run(
        ["git", "ls-files"], cwd=SOURCE_TREE, capture_output=True, text=True, check=True
    ).stdout
    assert {line.split("/")[0] for line in listed.splitlines()} <= {*FOLDERS, *FILES}


def test_presets_have_one_home() -> None:
    presets = [
        relative(path) for path in own_files() if path.suffix == ".toml" and "presets" in relative(path)
    ]
    assert presets and all(path.startswith("jobs/presets/") for path in presets)


def test_uploads_stay_small() -> None:
    # `ray job submit --working-dir .` sends every tracked file.
    megabytes = sum(path.stat().st_size for path in own_files()) / 1e6
    assert megabytes < 45


def test_constraints_are_names_and_versions() -> None:
    lines = (SOURCE_TREE / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[A-Za-z0-9.]+", pin) for pin in pins)
    assert pins == sorted(pins, key=lambda pin: pin.partition("==")[0])


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((SOURCE_TREE / "pyproject.toml").read_text())["project"]
    pins = {
        line.partition("==")[0]: line.partition("==")[2]
        for line in (SOURCE_TREE / "constraints.txt").read_text().splitlines()
        if "==" in line and not line.startswith("#")
    }
    extras = project["optional-dependencies"]
    wanted = [
        Requirement(each)
        for each in project["dependencies"] + extras["cpu"] + extras["dev"] + extras["build"]
    ]
    assert {"vllm", "faiss-gpu"} <= {Requirement(each).name for each in extras["gpu"]}
    for requirement in wanted:
        exact = any(clause.operator == "==" and "*" not in clause.version for clause in requirement.specifier)
        name = canonicalize_name(requirement.name)
        assert exact or name in pins, f"{name} has no version"
        assert exact or requirement.specifier.contains(pins[name]), (
            f"{name}=={pins[name]} is not {requirement}"
        )
