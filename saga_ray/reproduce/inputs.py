"""What runs read that is not on this machine: releases of data sets, supervisors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.reproduce.runs import Run


def missing(runs: Sequence[Run]) -> list[str]:
    """What is not there or not whole, a phrase each: which data set or supervisor, where, by which setting.

    A release's lists are read, its pictures are not opened.
    """
    data = {(run.settings.data.source, run.settings.data.root): run.settings for run in runs}
    teachers = {run.settings.supervisor.path: None for run in runs}
    found = [_data(settings) for settings in data.values()]
    found += [_supervisor(path) for path in teachers]
    return [phrase for phrase in found if phrase]


def require(runs: Sequence[Run]) -> None:
    """Refuse where anything is missing, all of it at once.

    Raises:
        UserError: something is.
    """
    lacks = missing(runs)
    if lacks:
        count = "1 input is" if len(lacks) == 1 else f"{len(lacks)} inputs are"
        raise UserError(
            f"{count} missing: {'; '.join(lacks)}; put them there, or name by --inputs the folder that "
            "the presets' paths start from"
        )


def _data(settings: Settings) -> str:
    source, root = settings.data.source, settings.data.root
    if root is not None and not Path(root).expanduser().exists():
        return f"the release of {source} in {root} (data.root)"
    try:
        sources.read(settings.data)
    except UserError as error:
        return f"the release of {source}, of which {error}" if root else str(error)
    return ""


def _supervisor(path: str) -> str:
    try:
        supervisors.find(path)
    except UserError:
        return f"the supervisor {path} (supervisor.path; the preset's first lines say how to make it)"
    return ""
