"""An encoder that MLflow logged comes back from its store and embeds as before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.exceptions import MlflowException

from saga_ray.config.settings import Settings
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.tracking.mlflow import Tracker
from saga_ray.tracking.served_encoder import BATCH
from tests.tiny import PIXELS, TOKEN_WIDTH, TinyTower, tiny_images

SIZE = 5  # of the embedding


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Encoder, str]]:
    """URI of the logged model, the encoder, the arm's run."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder = Encoder(TinyTower(), Pooler(TOKEN_WIDTH, SIZE)).eval()
    encoder.save(folder / "model")
    settings = Settings.model_validate({"tracking": {"system_metrics": False}})
    with (
        Tracker.start(settings, folder / "home", nodes=1) as tracker,
        tracker.arm("saga", settings) as arm,
    ):
        uri = arm.log_encoder(folder / "model", image_size=PIXELS, embedding_size=SIZE)
    yield uri, encoder, arm.run_id


def test_a_loaded_model_embeds_as_the_encoder_does(logged: tuple[str, Encoder, str]) -> None:
    uri, encoder, _ = logged
    pictures = tiny_images(BATCH + 3)
    with torch.no_grad():
        expected = encoder(pictures).numpy()
    embeddings = mlflow.pyfunc.load_model(uri).predict(pictures.numpy())
    assert embeddings.shape == (BATCH + 3, SIZE) and embeddings.dtype == np.float32
    np.testing.assert_allclose(embeddings, expected, atol=1e-6)


def test_the_signature_says_what_goes_in_and_out_and_is_enforced(logged: tuple[str, Encoder, str]) -> None:
    model = mlflow.pyfunc.load_model(logged[0])
    signature = model.metadata.signature
    [pictures], [embeddings] = signature.inputs.inputs, signature.outputs.inputs
    assert (pictures.shape, pictures.type) == ((-1, PIXELS, PIXELS, 3), np.dtype("uint8"))
    assert (embeddings.shape, embeddings.type) == ((-1, SIZE), np.dtype("float32"))
    with pytest.raises(MlflowException):
        model.predict(np.zeros((1, PIXELS, PIXELS + 1, 3), dtype=np.uint8))
    with pytest.raises(MlflowException):
        model.predict(np.zeros((1, PIXELS, PIXELS, 3), dtype=np.float64))


def test_the_model_is_safetensors_and_no_pickle(logged: tuple[str, Encoder, str]) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged[0]))
    names = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "encoder.safetensors", "config.json", "requirements.txt"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pt", ".pth", ".bin"))]


def test_the_model_is_found_from_its_run(logged: tuple[str, Encoder, str]) -> None:
    model = mlflow.pyfunc.load_model(f"runs:/{logged[2]}/encoder")
    assert model.predict(tiny_images(1).numpy()).shape == (1, SIZE)
