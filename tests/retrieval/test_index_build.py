"""From an encoder and pictures to an index, by the commands that a user types."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from saga_ray.cli import main
from saga_ray.config.settings import EvaluationSettings, Settings
from saga_ray.data import sources
from saga_ray.data.decoding import centre_square, decode
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.models.pooler import Pooler
from saga_ray.retrieval.index import Index, encoder_hash
from saga_ray.retrieval.index.build import build
from saga_ray.retrieval.index.identity import PREPROCESSING
from saga_ray.retrieval.model import find_model
from saga_ray.serve import models
from tests.data.public_releases import inshop
from tests.tiny import PIXELS, TOKEN_WIDTH, TinyTower

WIDTH = 5


def make_pictures(folder: Path, names: list[str], seed: int = 0) -> Path:
    """Pictures of noise as ``folder/<class>/<name>.png``."""
    rng = np.random.default_rng(seed)
    for name in names:
        file = folder / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (300, 400, 3), dtype=np.uint8)).save(file)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    Encoder(TinyTower(), Pooler(TOKEN_WIDTH, WIDTH)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return make_pictures(tmp_path / "pictures", ["chair/a", "chair/b", "sofa/a", "sofa/b"])


def saga(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    """What a command prints with ``--json``."""
    capsys.readouterr()
    assert main([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_build_add_and_delete(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    built = saga(capsys, "index", "build", model, "--data", pictures, "--output", folder)
    assert (built["size"], built["width"], built["kind"]) == (4, WIDTH, "flat")
    assert built["encoder_hash"] == encoder_hash(model)
    index = Index.open(folder)
    index.require_model(encoder_hash(model), model)

    # each picture finds itself, as its encoder sees it
    encoder = Encoder.load(model)
    for file in pictures.rglob("*.png"):
        pixels = centre_square(decode(file.read_bytes(), PIXELS), PIXELS)
        with torch.no_grad():
            z_1E = encoder(torch.tensor(pixels)[None]).numpy()
        hit = index.search(z_1E, 1)[0][0]
        assert hit.id == f"{file.parent.name}/{file.name}" and hit.label == file.parent.name
        assert hit.score == pytest.approx(1, abs=1e-5)
        small = Image.open(io.BytesIO(index.thumbnail(hit.id) or b""))
        assert (small.format, small.size) == ("JPEG", (160, 120))

    more = make_pictures(tmp_path / "more", ["chair/a", "table/a"], seed=1)
    added = saga(capsys, "index", "add", folder, "--data", more, "--existing", "skip")
    assert (added["added"], added["size"], added["sources"]) == (1, 5, [str(pictures), str(more)])
    deleted = saga(capsys, "index", "delete", folder, "--label", "chair")
    assert (deleted["deleted"], deleted["size"]) == (2, 3)
    deleted = saga(capsys, "index", "delete", folder, "--ids", "sofa/a.png", "table/a.png")
    assert (deleted["deleted"], deleted["size"]) == (2, 1)
    assert index.size == 4 and index.reload() and index.size == 1 and not index.reload()


def test_a_tables_ids_and_columns_are_kept(model: Path, pictures: Path, tmp_path: Path) -> None:
    table = tmp_path / "pictures.csv"
    rows = [("chair/a.png", "chair", "007", "red"), ("sofa/a.png", "sofa", "008", "")]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("image", "label", "id", "colour")])
        csv.writer(file).writerows((f"{pictures.name}/{image}", *rest) for image, *rest in rows)
    settings = Settings()
    settings.data.source = str(table)
    built = sources.load(settings.data, 0)
    stored = models.load(model, "cpu")
    build(stored, built, tmp_path / "index", EvaluationSettings(), source="a table")
    hits = {hit.id: hit for hit in Index.open(tmp_path / "index").search(np.eye(WIDTH)[:1], 2)[0]}
    assert hits["007"].metadata == {"colour": "red"} and hits["008"].metadata == {}
    built.attributes["id"][1] = "007"
    with pytest.raises(UserError, match="ids must differ, but '007' names 2"):
        build(stored, built, tmp_path / "other", EvaluationSettings(), source="a table")


def test_another_encoder_is_refused(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "index"
    saga(capsys, "index", "build", model, "--data", pictures, "--output", folder)
    shutil.copytree(model, tmp_path / "copy")
    index = Index.open(folder)
    index.require_model(encoder_hash(tmp_path / "copy"), "copy")
    other = Encoder(TinyTower(seed=1), Pooler(TOKEN_WIDTH, WIDTH))
    other.save(tmp_path / "other")
    with pytest.raises(UserError, match="was built by another model"):
        index.require_model(encoder_hash(tmp_path / "other"), "other")
    words = ["index", "add", str(folder), "--data", str(pictures), "--existing", "replace"]
    assert main([*words, "--model", str(tmp_path / "other")]) == 2
    assert "was built by another model" in capsys.readouterr().err

    # the encoder may move, but must be found
    shutil.rmtree(model)
    assert main(words) == 2
    assert "give it by --model" in capsys.readouterr().err
    moved = saga(capsys, *words, "--model", tmp_path / "copy")
    assert (moved["added"], moved["size"]) == (4, 4)


def test_the_hash_changes_with_weights_configuration_and_preprocessing(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = {encoder_hash(model)}
    monkeypatch.setattr("saga_ray.retrieval.index.identity.PREPROCESSING", PREPROCESSING + "x")
    hashes.add(encoder_hash(model))
    for name in ("config.json", "encoder.safetensors"):
        with (model / name).open("ab") as file:
            file.write(b" ")
        hashes.add(encoder_hash(model))
    assert len(hashes) == 4
    (model / "config.json").unlink()
    with pytest.raises(UserError, match="holds no encoder"):
        encoder_hash(model)


def test_the_preprocessing_is_the_one_that_its_name_stands_for() -> None:
    # If this fails, pictures are turned into other pixels than before: give identity.PREPROCESSING a new name
    # (so that old indexes are refused), and put the new digest here.
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (90, 70, 4), dtype=np.uint8), "RGBA").save(file, format="PNG")
    pixels = centre_square(decode(file.getvalue(), 32), 32)
    digest = hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
    assert (PREPROCESSING, digest[:16]) == ("centre-square-bicubic-1", "65ad2ed16d880038")


def test_a_run_stands_for_its_saga_arm_or_its_only_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    metric = run / "arms/metric/model"
    for arm in ("metric", "start"):
        Encoder(TinyTower(), Pooler(TOKEN_WIDTH)).save(run / "arms" / arm / "model")
    with pytest.raises(UserError, match="has the arms metric, start; name one"):
        find_model(str(run))
    assert find_model(str(metric)) == metric
    shutil.rmtree(run / "arms/start")
    assert find_model(str(run)) == metric
    shutil.copytree(metric, run / "arms/saga/model")
    assert find_model(str(run)) == run / "arms/saga/model"
    with pytest.raises(UserError, match="holds no encoder"):
        find_model(str(tmp_path))


def test_pictures_of_a_public_release_are_found_by_its_root(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inshop(tmp_path / "release")
    words = ["--data", "inshop", "--root", tmp_path / "release"]
    folder = tmp_path / "index"
    assert saga(capsys, "index", "build", model, *words, "--part", "train", "--output", folder)["size"] == 4
    assert saga(capsys, "index", "add", folder, *words, "--part", "test")["added"] == 8


def test_what_cannot_be_built_is_said_in_a_sentence(
    model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", "build", str(model), "--data", str(pictures), "--output", str(tmp_path / "index")]
    assert main([*words, "--kind", "ivfpq"]) == 2
    assert "learns from 9,984 pictures or more" in capsys.readouterr().err
    assert main([*words, "--part", "extra"]) == 2
    assert "has no pictures in its part 'extra'" in capsys.readouterr().err
    assert main([*words, "--workers", "0"]) == 2
    assert main([*words, "--kind", "hnsw"]) == 0
    assert "recall@10    1.000 of the exact search's, by 4 of its rows" in capsys.readouterr().out
    assert main(words) == 2
    assert "holds an index already" in capsys.readouterr().err


@pytest.mark.slow  # 35 s; tests/retrieval/test_embed.py compares the two ways as well
def test_pictures_of_one_class_or_without_labels_are_indexed_and_added(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loose = make_pictures(tmp_path / "loose", ["a", "b", "deep/er/c"])
    (tmp_path / "table.csv").write_text("image,id\nloose/a.png,first\nloose/b.png,second\n")
    product = make_pictures(tmp_path / "one", ["product/a", "product/b"], seed=1)
    folder = tmp_path / "index"
    assert saga(capsys, "index", "build", model, "--data", loose, "--output", folder)["size"] == 3
    for data, size in ((tmp_path / "table.csv", 5), (product, 7)):
        assert saga(capsys, "index", "add", folder, "--data", data)["size"] == size
    rows = Index(folder).rows.read_all()
    labels = dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True))
    assert labels == {
        **{"a.png": "", "b.png": "", "deep/er/c.png": "deep", "first": "", "second": ""},
        **{"product/a.png": "product", "product/b.png": "product"},
    }
    capsys.readouterr()
    assert main(["evaluate", str(model), "--data", str(loose)]) == 2, "classes are needed there"


def test_an_output_that_cannot_be_written_is_said_before_any_picture_is_looked_at(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(output: str) -> str:
        words = ["index", "build", str(model), "--data", "no pictures at all", "--output", output]
        assert main(words) == 2
        return capsys.readouterr().err

    assert "no index can be written to /proc/index: " in said("/proc/index")
    assert "'no pictures at all'" in said(str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_ray_embeds_the_same_index(
    session_ray: None, model: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["index", "build", model, "--data", pictures, "--output"]
    saga(capsys, *words, tmp_path / "here")
    saga(capsys, *words, tmp_path / "by-ray", "--workers", 1)
    query_QE = np.eye(WIDTH, dtype=np.float32)
    here, by_ray = (Index.open(tmp_path / name).search(query_QE, 4) for name in ("here", "by-ray"))
    for hits, others in zip(here, by_ray, strict=True):
        assert [hit.id for hit in hits] == [hit.id for hit in others]
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in others], atol=1e-6)
