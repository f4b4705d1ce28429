"""Which losses, presets, … there are: found by listing folders, so that asking imports nothing heavy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path

import saga_ray

PACKAGE = Path(saga_ray.__file__).parent
SOURCE_TREE = PACKAGE.parent


def shipped(in_source_tree: str, in_wheel: str) -> Path:
    """A file whose one home is beside the package in the source tree; an installed wheel holds a copy."""
    beside = SOURCE_TREE / in_source_tree
    is_source_tree = (SOURCE_TREE / "pyproject.toml").is_file()
    return beside if is_source_tree else PACKAGE / "shipped" / in_wheel


def modules_in(folder: str) -> list[str]:
    """Names of the modules and packages directly in a folder of saga_ray, such as ``losses/metric``.

    Left out: names that start with an underscore, and ``base``, which holds what a folder's files share.
    """
    found = {
        path.stem
        for path in (PACKAGE / folder).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    return sorted(name for name in found if not name.startswith("_") and name != "base")


def nearest(name: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, if any is near."""
    candidates: Sequence[str] = list(names)
    folded = {candidate.lower().replace("_", "-"): candidate for candidate in candidates}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[close[0]] if close else None
