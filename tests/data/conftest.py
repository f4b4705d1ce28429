"""Small pictures and tables for the tests of the data part."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from saga_ray.config.settings import DataSettings
from saga_ray.data.sources import load
from saga_ray.data.table import ImageTable

Blob = Callable[..., bytes]


def _blob(seed: int, width: int = 48, height: int = 48, kind: str = "JPEG") -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 95} if kind == "JPEG" else {}))
    return buffer.getvalue()


@pytest.fixture(scope="session")
def blob() -> Blob:
    """An encoded picture of soft blotches; another seed gives one that looks quite different."""
    return _blob


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder per class: 4 classes x 3 pictures."""
    for label in range(4):
        for number in range(3):
            path = tmp_path / "animals" / f"class{label}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_blob(10 * label + number))
    return tmp_path / "animals"


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> ImageTable:
    """Training part of 20 classes x 5 pictures with the attribute `kind`."""
    path = tmp_path_factory.mktemp("table") / "things.parquet"
    labels = [f"c{label:02d}" for label in range(20) for _ in range(5)]
    columns = {
        "image": [_blob(row) for row in range(100)],
        "label": labels,
        "split": ["train"] * 100,
        "kind": [f"kind{int(label[1:]) % 4}" for label in labels],
    }
    pq.write_table(pa.table(columns), path)
    return load(DataSettings(source=str(path)), seed=1).part("train")
