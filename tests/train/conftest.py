"""What the runs of this folder share: pictures, supervisor, and one folder, hence one MLflow store."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from transformers.utils.logging import disable_progress_bar

from saga_ray.config.settings import Settings
from tests.tiny import tiny_supervisor
from tests.train.done import Done, finished
from tests.train.small import make_pictures, make_table, small_settings


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


@pytest.fixture(scope="session")
def two_parts(base: Path, small: Callable[..., Settings]) -> Settings:
    """A run of one arm on a table that has train and test classes alone, and one broken picture."""
    table = make_table(make_pictures(base / "two-parts", classes=12), base / "two-parts.csv")
    data = {"source": str(table), "max_broken_share": 0.02}
    return small(["saga"], data=data, train={"steps": 5, "checkpoint_every": 2, "max_failures": 0})


@pytest.fixture(scope="session")
def uninterrupted(session_ray: None, base: Path, two_parts: Settings) -> Done:
    """That run, from its start to its end."""
    return finished(two_parts, base / "uninterrupted")
