"""The repository's own files: what a clone holds, without caches, environments and runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from saga_ray.config.names import SOURCE_TREE

FOLDERS = ("saga_ray", "jobs", "tests", "tune_spaces", "benchmarks", "docs", ".ci")
FILES = ("Makefile", "README.md", "pyproject.toml", "constraints.txt", "cluster.yaml", ".gitignore")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".json",
    ".jsonl",
    ".csv",
    ".sh",
    ".html",
    ".j2",
    ".jinja",
    ".css",
    ".js",
    "",
}


def own_files() -> Iterator[Path]:
    """Every file of the repository."""
    yield from (SOURCE_TREE / name for name in FILES)
    for folder in FOLDERS:
        for path in sorted((SOURCE_TREE / folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield path


def text_files() -> Iterator[Path]:
    """Those that people read."""
    return (path for path in own_files() if path.suffix in TEXT)


def python_files() -> Iterator[Path]:
    """Those that Python reads."""
    return (path for path in own_files() if path.suffix == ".py")


def relative(path: Path) -> str:
    """A file as it is named in the repository."""
    return path.relative_to(SOURCE_TREE).as_posix()
