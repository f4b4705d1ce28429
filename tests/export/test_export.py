"""An export embeds as the encoder does, in the program that it is meant for, or it is not kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from PIL import Image

from saga_ray.cli import main
from saga_ray.config.names import PACKAGE
from saga_ray.data.decoding import centre_square, decode
from saga_ray.errors import UserError
from saga_ray.export import export, formats
from saga_ray.export.compare import TOLERANCE, compare, pictures
from saga_ray.models import towers
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.retrieval.index import encoder_hash
from tests.tiny import TOKEN_WIDTH, TinyTower

SIZE, WIDTH = 112, 6
SHIPPED = PACKAGE / "models/supervisors/shipped"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one arm and its result."""
    encoder = Encoder(towers.load(SHIPPED / "furniture-pocket/tower"), Pooler(1280, WIDTH))
    with torch.no_grad():
        encoder.pooler.query.normal_(generator=torch.Generator().manual_seed(0))
    folder = tmp_path_factory.mktemp("runs") / "chairs"
    encoder.save(folder / "arms/saga/model")
    measures = {"recall@1": 0.9386, "recall@4": 0.97, "map@r": 0.7, "nmi": 0.8}
    result = {
        "seed": 3,
        "test": {"start": {name: value / 2 for name, value in measures.items()}, "saga": measures},
        "data": {"source": "furniture", "hash": "ab" * 32, "test_images": 1234, "test_classes": 56},
    }
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture(scope="module")
def model(run: Path) -> Path:
    return run / "arms/saga/model"


def expected(model: Path, images_BHWC: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return Encoder.load(model)(torch.tensor(images_BHWC)).numpy()


def test_the_encoder_of_these_tests_tells_pictures_apart(model: Path) -> None:
    z_BE = expected(model, pictures(SIZE)[2])
    assert np.linalg.norm(z_BE - z_BE.mean(axis=0), axis=1).min() > 1000 * TOLERANCE


def test_onnx_runs_in_onnxruntime_at_any_batch_size(model: Path, tmp_path: Path) -> None:
    exported = export(model, "onnx", tmp_path / "out")
    assert exported.compared.largest_difference < TOLERANCE
    assert {file.name for file in exported.folder.iterdir()} == {"encoder.onnx", "README.md"}
    session = onnxruntime.InferenceSession(str(exported.folder / "encoder.onnx"))
    for batch in (1, 3, 8):
        images_BHWC = np.random.default_rng(batch).integers(0, 256, (batch, SIZE, SIZE, 3), dtype=np.uint8)
        [z_BE] = session.run(["embeddings"], {"images": images_BHWC})
        np.testing.assert_allclose(z_BE, expected(model, images_BHWC), atol=1e-5)


def test_the_torch_package_needs_nothing_of_this_one(model: Path, tmp_path: Path) -> None:
    exported = export(model, "torch", tmp_path / "out")
    package = exported.folder / "saga_encoder"
    assert "saga_ray" not in "".join(file.read_text() for file in package.glob("*.py"))
    picture = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 90, 4), dtype=np.uint8)).save(picture)
    script = (
        "import sys; sys.modules['saga_ray'] = None\n"
        "import torch\n"
        "from saga_encoder import load, read\n"
        f"images = torch.stack([read({str(picture)!r})])\n"
        "with torch.inference_mode(): print(load()(images).tolist())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=exported.folder, capture_output=True, text=True, check=True
    )
    images_BHWC = centre_square(decode(picture.read_bytes(), SIZE), SIZE)[None]
    np.testing.assert_allclose(json.loads(ended.stdout), expected(model, images_BHWC), atol=1e-6)


def test_pyfunc_is_an_mlflow_model(model: Path, tmp_path: Path) -> None:
    exported = export(model, "pyfunc", tmp_path / "out")
    images_BHWC = pictures(SIZE)[1]
    z_BE = mlflow.pyfunc.load_model(str(exported.folder)).predict(images_BHWC)
    np.testing.assert_allclose(z_BE, expected(model, images_BHWC), atol=1e-6)


def test_safetensors_is_the_model_with_a_card(
    run: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert main(["export", str(run), "--format", "safetensors", "--output", str(output)]) == 0
    assert "components differ by at most 0" in capsys.readouterr().out
    assert encoder_hash(output) == encoder_hash(model)
    card = (output / "README.md").read_text()
    front, _, text = card.removeprefix("---\n").partition("\n---\n")
    assert yaml.safe_load(front)["pipeline_tag"] == "image-feature-extraction"
    assert "# chairs: arm saga" in text and encoder_hash(model) in text
    assert "| saga | 93.9 | 97.0 | 70.0 | 80.0 |" in text and "| start | 46.9 |" in text
    assert f"batch x {SIZE} x {SIZE} x 3" in text and "{" not in text


def test_no_export_holds_a_pickle(model: Path, tmp_path: Path) -> None:
    for format in ("safetensors", "pyfunc"):
        export(model, format, tmp_path / format)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file for file in files if file.suffix in {".pkl", ".pickle", ".pt", ".pth", ".bin"}]


def test_what_embeds_otherwise_is_not_kept(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(model)
    wrong = {
        "components differ": lambda images: expected(model, 255 - images),
        "components differ by nan": lambda images: np.full((len(images), WIDTH), np.nan, np.float32),
        "makes embeddings of shape": lambda images: expected(model, images)[:1],
    }
    for message, embed in wrong.items():
        with pytest.raises(UserError, match=message):
            compare(encoder, embed, "it")
    monkeypatch.setattr("saga_ray.export.compare.TOLERANCE", -1.0)
    with pytest.raises(UserError, match="embeds otherwise than the encoder"):
        export(model, "safetensors", tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_tower_that_needs_this_package_cannot_stand_alone(tmp_path: Path) -> None:
    Encoder(TinyTower(), Pooler(TOKEN_WIDTH)).save(tmp_path / "model")
    with pytest.raises(UserError, match="cannot stand alone; export with --format onnx"):
        export(tmp_path / "model", "torch", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


def test_mistakes_are_said_in_a_sentence(model: Path, tmp_path: Path) -> None:
    assert formats() == ["onnx", "pyfunc", "safetensors", "torch"]
    with pytest.raises(UserError, match="no format 'pt'; choose from onnx"):
        export(model, "pt", tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists; name one that does not"):
        export(model, "onnx", tmp_path / "out")
