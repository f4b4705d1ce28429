"""What the runs of this folder share: pictures, supervisor, and one folder, hence one MLflow store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers.utils.logging import disable_progress_bar

from saga_ray.config.settings import Settings
from tests.tiny import tiny_supervisor
from tests.train.small import make_pictures, small_settings


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the session's runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def small(base: Path) -> Callable[..., Settings]:
    """``small(arms, section={...})``: settings of a small run."""
    disable_progress_bar()  # of the tiny supervisor's weights, on stderr
    supervisor = base / "supervisor"
    supervisor.mkdir()
    tiny_supervisor(supervisor)
    return partial(small_settings, make_pictures(base / "pictures"), supervisor)
