"""What composed retrieval trains on: the furniture that ships, and a user's own folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from PIL import Image

from saga_ray.composed import benchmarks, sources
from saga_ray.composed.examples import TrainingData
from saga_ray.data import furniture as shipped
from saga_ray.errors import UserError


@pytest.fixture(scope="module")
def furniture() -> TrainingData:
    return sources.load("furniture")


def write(folder: Path, name: str, lines: list[dict[str, Any]]) -> None:
    (folder / name).write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), "red").save(tmp_path / "pictures" / f"{name}.jpg")
    write(
        tmp_path,
        "captions.jsonl",
        [{"image": f"pictures/{name}.jpg", "caption": f"a {name}"} for name in ("a", "b", "c")],
    )
    write(
        tmp_path,
        "triplets.jsonl",
        [
            {"reference": "pictures/a.jpg", "instruction": "in b", "target": "pictures/b.jpg"},
            {
                "reference": "./pictures/a.jpg",
                "instruction": "in c",
                "target_text": "a c",
                "reference_text": "an a",
            },
            {
                "reference": "pictures/b.jpg",
                "instruction": "in c",
                "target": "pictures/c.jpg",
                "split": "test",
            },
        ],
    )
    return tmp_path


# Furniture


def test_no_model_of_validation_or_test_trains(furniture: TrainingData) -> None:
    trained = set(furniture.pictures.sources.to_pylist())
    rows = [
        row
        for table in (shipped.PARQUET, shipped.COMPOSED)
        for row in pq.read_table(table, columns=["split", "image"]).to_pylist()
    ]
    assert {row["split"] for row in rows if row["image"] in trained} == {"train", "extra"}
    assert len(trained) == sum(row["split"] in ("train", "extra") for row in rows)


def test_targets_show_what_is_asked_for(furniture: TrainingData) -> None:
    captions = {each.picture: each.caption for each in furniture.captioned}
    for each in furniture.triplets:
        assert captions[each.reference] == each.caption
        assert {captions[row] for row in each.targets} == {each.modified}
        assert each.reference not in each.targets
        assert each.shows != each.asks
    repaints = [each for each in furniture.triplets if not each.instruction.startswith("another")]
    assert 0.3 < len(repaints) / len(furniture.triplets) < 0.7
    for each in repaints:
        model, colour = each.asks.split("/")
        assert each.shows.startswith(f"{model}/")
        assert each.instruction.endswith(colour)
        assert each.modified.split()[1] == colour


def test_furniture_is_the_same_every_time(furniture: TrainingData) -> None:
    assert sources.load("furniture").hash == furniture.hash


def test_the_furniture_benchmark_unpacks_once_and_never_ranks_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path))
    benchmark = benchmarks.read("furniture", split="validation")
    gallery = benchmark.galleries["validation"]
    made = {picture.id: Path(picture.path).stat().st_mtime_ns for picture in gallery.pictures}
    assert {query.kind for query in benchmark.queries} == {"recolour", "attribute"}
    for query in benchmark.queries:
        rows = benchmark.candidate_rows(query)
        ranked = {gallery.pictures[row].id for row in rows}
        assert query.reference.id not in ranked and ranked > set(query.targets)
        assert len(rows) == len(gallery.pictures) - 1
    again = benchmarks.read("furniture", split="validation").galleries["validation"]
    assert {picture.id: Path(picture.path).stat().st_mtime_ns for picture in again.pictures} == made


def test_other_benchmarks_do_not_ship() -> None:
    with pytest.raises(UserError, match="circo does not ship with the project: give the folder"):
        benchmarks.read("circo")


# A user's own


def test_a_folder_s_captions_and_triplets_are_read(own: Path) -> None:
    data = sources.load(str(own))
    names = [Path(name).name for name in data.pictures.sources.to_pylist()]
    assert names == ["a.jpg", "b.jpg", "c.jpg"]
    assert [(each.picture, each.caption) for each in data.captioned] == [(0, "a a"), (1, "a b"), (2, "a c")]
    first, second = data.triplets  # the third is of the test split
    assert (first.reference, first.targets, first.caption, first.modified) == (0, (1,), "a a", "")
    assert (second.reference, second.targets, second.caption, second.modified) == (0, (), "an a", "a c")


def test_a_folder_s_queries_are_the_lines_of_their_split(own: Path) -> None:
    test = sources.queries(str(own), "test")
    assert test is not None
    assert [query.targets for query in test.queries] == [("pictures/c.jpg",)]
    assert sources.queries(str(own), "validation") is None


def test_missing_pictures_are_counted_and_named(own: Path) -> None:
    (own / "pictures" / "b.jpg").unlink()
    (own / "pictures" / "c.jpg").unlink()
    with pytest.raises(UserError, match=r"2 of 3 pictures .* not there \(pictures/b\.jpg, pictures/c\.jpg\)"):
        sources.load(str(own))


def test_captions_as_llava_has_them(own: Path) -> None:
    (own / "captions.jsonl").unlink()
    turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": "a red thing"}]
    (own / "captions.json").write_text(json.dumps([{"image": "pictures/a.jpg", "conversations": turns}]))
    assert [each.caption for each in sources.load(str(own)).captioned] == ["a red thing"]


@pytest.mark.parametrize("source", ["furnitur", "nowhere/at/all"])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(UserError, match="neither a source"):
        sources.load(source)
