"""An embedder that MLflow logged comes back from its store and embeds as before."""

from __future__ import annotations

import io
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from saga_ray.composed.embedder import Embedder
from saga_ray.config.composed import ComposedSettings
from saga_ray.data.decoding import centre_square, decode
from saga_ray.errors import UserError
from saga_ray.models import supervisors
from saga_ray.tracking.mlflow import Tracker


def png(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


def test_a_loaded_model_embeds_pictures_texts_and_both(tmp_path: Path) -> None:
    made = Embedder(supervisors.load("furniture-pocket"), width=48)
    made.save(tmp_path / "model")
    settings = ComposedSettings.model_validate({"tracking": {"system_metrics": False}})
    with (
        Tracker.start(settings, tmp_path / "home", nodes=1) as tracker,
        tracker.arm("align", settings) as run,
    ):
        uri = run.log_embedder(tmp_path / "model", embedding_size=48)
    loaded = mlflow.pyfunc.load_model(uri)

    pictures = [png(seed) for seed in range(3)]
    table = pd.DataFrame(
        {"image": [*pictures, None, pictures[0]], "text": [None, "make it red", None, "a red lamp", "taller"]}
    )
    found = loaded.predict(table)
    assert found.shape == (5, 48) and found.dtype == np.float32
    embedder = Embedder.load(tmp_path / "model")
    size = embedder.image_size
    with torch.no_grad():
        x_BND = embedder.tokens(
            torch.from_numpy(np.stack([centre_square(decode(each, size), size) for each in pictures]))
        )
        expected = torch.cat(
            [
                embedder.images(x_BND[:1]),
                embedder.composed(x_BND[1:2], ["make it red"]),
                embedder.images(x_BND[2:]),
                embedder.texts(["a red lamp"]),
                embedder.composed(x_BND[:1], ["taller"]),
            ]
        )
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-6)
    np.testing.assert_allclose(loaded.predict(table[["image"]][:3])[0], found[0], atol=2e-6)
    with pytest.raises(UserError, match="row 1 has neither an image nor a text"):
        loaded.predict(pd.DataFrame({"image": [pictures[0], None]}))
