"""In-Shop from its release to the page: queries search the gallery alone, wherever they are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest

from saga_ray.cli.command_line import main
from saga_ray.config.settings import Settings
from saga_ray.data import sources
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.train.folder import RunFolder
from saga_ray.train.prepare import prepare
from tests.data.public_releases import inshop
from tests.tiny import PIXELS
from tests.train.done import Done, finished

RECALLS = {f"recall@{k}" for k in (1, 10, 20, 30, 40, 50)}


def settings_for(small: Callable[..., Settings], root: Path) -> Settings:
    data = {"source": "inshop", "root": str(root), "blocks": 1, "classes_per_batch": 2, "pairs_per_batch": 2}
    return small(["start"], data=data)


@pytest.fixture(scope="module")
def scored(session_ray: None, base: Path, small: Callable[..., Settings]) -> Done:
    inshop(base / "inshop")
    return finished(settings_for(small, base / "inshop"), base / "inshop-run")


def test_a_run_is_scored_by_queries_in_the_gallery(scored: Done) -> None:
    written = json.loads(scored.folder.result.read_text())
    found = written["test"]["start"]
    assert {name for name in found if name.startswith("recall@")} == RECALLS
    assert (written["data"]["test_images"], written["data"]["gallery_images"], found["queries"]) == (8, 4, 4)
    table = sources.load(scored.settings.data, scored.settings.seed).part("test")
    encoder = Encoder.load(scored.folder.model("start"))
    z_ME, _ = embed(table, encoder, scored.settings.evaluation, PIXELS, local=True)
    gallery = [row for row, role in enumerate(table.attributes["role"]) if role == "gallery"]
    right = []
    for query in set(range(len(table))) - set(gallery):
        nearest = gallery[int(np.argmax(z_ME[gallery] @ z_ME[query]))]
        right.append(table.labels[nearest] == table.labels[query])
    assert found["recall@1"] == pytest.approx(np.mean(right)) and found["recall@10"] == 1.0


def test_the_page_and_mlflow_say_the_same(scored: Done) -> None:
    page = (scored.folder.report / "index.html").read_text()
    assert "candidates are the gallery&#39;s 4 pictures alone" in page and "<th>R@50</th>" in page
    tracked = mlflow.MlflowClient(f"sqlite:///{scored.folder.path.parent / 'mlflow.db'}").get_run(
        RunFolder.mlflow_run(scored.folder.path) or ""
    )
    map_at_r = scored.result.test["start"].map_at_r
    assert tracked.data.metrics["test/start/map_at_r"] == pytest.approx(map_at_r)
    assert tracked.data.metrics["test/start/recall_at_50"] == 1.0
    assert "test/start/recall_at_2" not in tracked.data.metrics


def test_evaluating_it_again_gives_the_same(scored: Done, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(scored.folder.path)
    assert main(["evaluate", folder, "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    written = json.loads(scored.folder.result.read_text())
    assert again["data"] == written["data"]
    assert again["test"]["start"] == pytest.approx(
        {name: value for name, value in written["test"]["start"].items() if name != "seconds"}, abs=1e-6
    )
    root = str(scored.settings.data.root)
    model = str(scored.folder.model("start"))
    assert main(["evaluate", model, "--data", "inshop", "--root", root]) == 0
    printed = capsys.readouterr().out
    assert "4 queries in a gallery of 4 pictures of 2 classes of inshop;" in printed


def test_a_release_without_its_gallery_is_refused(small: Callable[..., Settings], tmp_path: Path) -> None:
    inshop(tmp_path)
    listed = tmp_path / "Eval/list_eval_partition.txt"
    listed.write_text(listed.read_text().replace("gallery", "query"))
    with pytest.raises(UserError, match="no test class with both a query and a picture in the gallery"):
        prepare(settings_for(small, tmp_path))
