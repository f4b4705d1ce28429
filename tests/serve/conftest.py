"""Fixtures: a tiny encoder's folder, an index, the app over both; and the same of a composed embedder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.serve.cases import app_of, build_index, save_embedder, save_encoder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder's folder."""
    return save_encoder(tmp_path_factory.mktemp("served") / "model")


@pytest.fixture(scope="session")
def index(model: Path) -> Path:
    """An index that the encoder built."""
    return build_index(model, model.with_name("index"))


@pytest.fixture(scope="session")
def app(model: Path, index: Path) -> Any:
    """The app over both, with the limits that users get."""
    return app_of(model, index)


@pytest.fixture(scope="session")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A composed embedder's folder."""
    return save_embedder(tmp_path_factory.mktemp("composed") / "embedder")


@pytest.fixture(scope="session")
def composed_index(embedder: Path) -> Path:
    """An index that the embedder built."""
    return build_index(embedder, embedder.with_name("index"))


@pytest.fixture(scope="session")
def composing(embedder: Path, composed_index: Path) -> Any:
    """The app over both, with the limits that users get."""
    return app_of(embedder, composed_index)
