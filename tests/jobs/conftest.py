"""What a submitted job needs: a clone's files, small settings, a folder for Ray with a short name."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.presets import to_toml
from tests.tiny import tiny_supervisor
from tests.train.small import make_pictures, small_settings


@pytest.fixture(scope="session")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's files without what git ignores, as a clone has them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=SOURCE_TREE,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    copy = tmp_path_factory.mktemp("clone")
    for name in filter(None, listed.stdout.split("\0")):
        if (SOURCE_TREE / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(SOURCE_TREE / name, copy / name)
    return copy


@pytest.fixture(scope="module")
def ray_folder() -> Iterator[Path]:
    """Paths of sockets may have 107 characters, of which Ray takes about 70."""
    with tempfile.TemporaryDirectory(prefix="saga", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def settings_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``settings_file(name, arms, section={...})``: a TOML file of a run of two steps with vLLM."""
    base = tmp_path_factory.mktemp("small")
    supervisor = base / "supervisor"
    supervisor.mkdir()
    tiny_supervisor(supervisor)
    pictures = make_pictures(base / "pictures")

    def write(name: str, arms: list[str], **changes: dict[str, Any]) -> Path:
        few: dict[str, dict[str, Any]] = {"train": {"steps": 2}, "rollout": {"engine": "vllm"}}
        merged = few | {section: few.get(section, {}) | change for section, change in changes.items()}
        file = base / f"{name}.toml"
        file.write_text(to_toml(small_settings(pictures, supervisor, arms, **merged)))
        return file

    return write
