"""GeneCIS: four tasks, own galleries, a target that is listed first and gains nothing by it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import load, measures, read
from saga_ray.errors import UserError
from tests.composed.releases import Entry, chance, constant, edit, edit_entry, genecis, ranked

TASKS = ["focus_attribute", "change_attribute", "focus_object", "change_object"]


def test_every_query_ranks_its_own_gallery_only(tmp_path: Path) -> None:
    benchmark = read("genecis", genecis(tmp_path))
    assert list(benchmark.galleries) == TASKS
    for query, ranking in zip(benchmark.queries, ranked(benchmark, chance), strict=True):
        assert query.candidates is not None and len(query.candidates) == 5
        assert sorted(ranking.nearest) == sorted(query.candidates)
    first = next(query for query in benchmark.queries if query.kind == "focus_object")
    assert (first.id, first.targets, first.reference.id) == ("focus_object/1", ("2000",), "1000")
    assert first.candidates == ("2000", "3000", "3001", "3002", "3003")


def test_objects_of_one_picture_are_apart_and_each_is_loaded_as_its_crop(tmp_path: Path) -> None:
    pictures = read("genecis", genecis(tmp_path)).galleries["focus_attribute"].pictures
    assert pictures[0].id == "8@0.0,1.5,8.0,8.25" and pictures[0].box == (0, 1.5, 8, 8.25)
    assert len({picture.id for picture in pictures}) == len(pictures) == 10
    assert len({picture.path for picture in pictures}) == 2
    assert load(pictures[0], 224).size == (14, 14)


def test_measures_are_means_over_the_four_tasks(tmp_path: Path) -> None:
    genecis(tmp_path)
    edit(tmp_path / "focus_object.json", lambda entries: entries[:1])
    benchmark = read("genecis", tmp_path)
    wanted = {query.id: query.targets[0] for query in benchmark.queries}
    found = measures(
        benchmark,
        ranked(benchmark, lambda q, picture: float((picture == wanted[q]) == q.startswith("focus"))),
    )
    assert [found[f"recall@1/{task}"] for task in TASKS] == [1, 0, 1, 0]
    assert [found[f"recall@{k}"] for k in (1, 2, 3)] == [0.5, 0.5, 0.5]


def test_a_constant_scorer_scores_as_chance_though_the_target_is_listed_first(tmp_path: Path) -> None:
    benchmark = read("genecis", genecis(tmp_path, queries=300))
    found = measures(benchmark, ranked(benchmark, constant))
    for k in (1, 2, 3):
        assert found[f"recall@{k}"] == pytest.approx(k / 5, abs=4 * (0.25 / 1200) ** 0.5)


def test_a_picture_that_is_listed_twice_counts_twice_and_is_reported(tmp_path: Path) -> None:
    genecis(tmp_path)
    edit(tmp_path / "focus_object.json", lambda entries: [entries[0]])
    edit(
        tmp_path / "focus_object.json",
        lambda entries: entries[0]["gallery"].__setitem__(1, {"val_image_id": 3000}),
    )
    edit(tmp_path / "change_object.json", lambda entries: entries[0]["gallery"].append(entries[0]["target"]))
    benchmark = read("genecis", tmp_path)
    assert benchmark.counts["queries_with_repeated_pictures"] == 2
    order = ["3000", "2000"]
    scores = ranked(benchmark, lambda _, picture: float(order.index(picture)) if picture in order else 9.0)
    by_query = {ranking.query: ranking.nearest for ranking in scores}
    assert by_query["focus_object/1"][2:] == ("2000", "3000", "3000")
    assert by_query["change_object/1"][-3:] == ("2000", "2000", "3000")


def test_ids_may_be_bare_and_files_may_lie_in_the_authors_folders(tmp_path: Path) -> None:
    genecis(tmp_path)
    edit(tmp_path / "focus_object.json", lambda entries: entries[0].update(target=2001))
    for task in TASKS:
        (tmp_path / "genecis").mkdir(exist_ok=True)
        shutil.move(tmp_path / f"{task}.json", tmp_path / "genecis")
    (tmp_path / "coco").mkdir()
    shutil.move(tmp_path / "val2017", tmp_path / "coco")
    (tmp_path / "visual_genome").mkdir()
    for folder in ("VG_100K", "VG_100K_2"):
        shutil.move(tmp_path / folder, tmp_path / "visual_genome")
    benchmark = read("genecis", tmp_path)
    assert benchmark.galleries["focus_object"].pictures[0].id == "2001"


def test_what_is_missing_and_what_differs_is_said(tmp_path: Path) -> None:
    genecis(tmp_path)
    assert read("genecis", tmp_path).differs[0] == (
        "focus_attribute.json: 2 here, 2,000 in the official release"
    )
    (tmp_path / "focus_object.json").unlink()
    (tmp_path / "VG_100K_2/9.jpg").unlink()
    shutil.rmtree(tmp_path / "val2017")
    with pytest.raises(
        UserError, match=r"lacks focus_object\.json; 12 of 14 pictures \(VG_100K/9\.jpg, val2017/"
    ):
        read("genecis", tmp_path)


@pytest.mark.parametrize(
    ("task", "change", "words"),
    [
        ("focus_object", lambda entry: entry.update(gallery=[]), "'gallery' is no list of pictures"),
        ("focus_object", lambda entry: entry.pop("target"), "target: 'val_image_id' is None"),
        (
            "focus_object",
            lambda entry: entry.update(reference={"id": 3}),
            "reference: 'val_image_id' is None",
        ),
        ("focus_object", lambda entry: entry.update(condition=5), "'condition' is 5 and no text"),
        ("focus_attribute", lambda entry: entry.update(target=5), "target: 5 is no object with 'image_id'"),
        ("focus_attribute", lambda entry: entry["target"].update(image_id="x"), "'image_id' is 'x'"),
        ("focus_attribute", lambda entry: entry["target"].pop("instance_bbox"), "'instance_bbox' is None"),
        ("focus_attribute", lambda entry: entry["target"].update(instance_bbox=[0, 0, 0, 5]), "with an area"),
        (
            "focus_attribute",
            lambda entry: entry["gallery"][1].update(instance_bbox=[0, 1, 2]),
            "gallery: .*area",
        ),
        (
            "focus_attribute",
            lambda entry: entry["target"].update(instance_bbox=[float("nan"), 1, 2, 3]),
            "'instance_bbox' is .nan",
        ),
    ],
)
def test_a_malformed_entry_is_named_with_its_file(
    tmp_path: Path, task: str, change: Callable[[Entry], Any], words: str
) -> None:
    genecis(tmp_path)
    edit_entry(tmp_path / f"{task}.json", 0, change)
    with pytest.raises(UserError, match=f"{task}.json entry 1.*{words}"):
        read("genecis", tmp_path)
