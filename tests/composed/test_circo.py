"""CIRCO: several right answers, one target, semantic aspects, a gallery from COCO's list or folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import measures, read
from saga_ray.errors import UserError
from tests.composed.releases import Entry, chance, circo, edit, edit_entry, picture, ranked

FOLDER = "COCO2017_unlabeled/unlabeled2017"


def naive_ap(order: list[str], right: list[str], k: int) -> float:
    found, total = 0, 0.0
    for place, each in enumerate(order[:k], 1):
        if each in right:
            found += 1
            total += found / place
    return total / min(len(right), k)


@pytest.mark.parametrize("listed", [False, True])
def test_measures_against_a_second_computation(tmp_path: Path, listed: bool) -> None:
    benchmark = read("circo", circo(tmp_path, listed=listed))
    orders = {
        query.id: sorted(benchmark.galleries["all"].rows, key=lambda each, q=query.id: -chance(q, each))
        for query in benchmark.queries
    }
    right = {"0": ["15"], "1": ["16", "17"], "2": ["17", "18", "19"]}
    found = measures(benchmark, ranked(benchmark, chance))
    for k in (5, 10, 25, 50):
        each = {query: naive_ap(orders[query], right[query], k) for query in orders}
        assert found[f"map@{k}"] == pytest.approx(sum(each.values()) / 3)
        hits = [right[query][0] in orders[query][:k] for query in orders]
        assert found[f"recall@{k}"] == pytest.approx(sum(hits) / 3)
        if k == 10:
            assert found["map@10/addition"] == pytest.approx(sum(each.values()) / 3)
            assert found["map@10/negation"] == pytest.approx((each["1"] + each["2"]) / 2)


def test_more_right_answers_than_places_are_measured_by_the_places(tmp_path: Path) -> None:
    circo(tmp_path)
    edit(tmp_path / "annotations/val.json", lambda entries: entries[0].update(gt_img_ids=list(range(10, 24))))
    edit(tmp_path / "annotations/val.json", lambda entries: entries[:1])
    benchmark = read("circo", tmp_path)
    found = measures(benchmark, ranked(benchmark, lambda query, each: -float(each)))
    assert found["map@5"] == 1 and found["map@50"] == 1
    assert (found["recall@5"], found["recall@10"]) == (0, 1)  # the one target is the sixth


def test_the_reference_is_ranked_and_the_instruction_is_the_relative_caption_alone(tmp_path: Path) -> None:
    benchmark = read("circo", circo(tmp_path))
    query = benchmark.queries[1]
    assert query.instructions == ("has 1 more",) and query.annotation["shared_concept"] == "a dog"
    assert len(benchmark.candidate_rows(query)) == 60
    ranking = ranked(benchmark, lambda query, each: float(each == "11"))[1]
    assert ranking.nearest[0] == query.reference.id == "11"


def test_coco_s_list_is_the_gallery_where_it_is_there(tmp_path: Path) -> None:
    circo(tmp_path, listed=True)
    picture(tmp_path / FOLDER / f"{99:012d}.jpg")  # in the folder and not in the list
    benchmark = read("circo", tmp_path)
    assert [each.id for each in benchmark.galleries["all"].pictures] == [str(n) for n in range(10, 70)]
    (tmp_path / FOLDER / f"{60:012d}.jpg").unlink()
    with pytest.raises(UserError, match=rf"1 of 60 pictures \({FOLDER}/{60:012d}\.jpg\)"):
        read("circo", tmp_path)


def test_the_folder_is_the_gallery_where_there_is_no_list(tmp_path: Path) -> None:
    circo(tmp_path)
    (tmp_path / FOLDER / "._000000000010.jpg").write_bytes(b"")
    (tmp_path / FOLDER / "readme.txt").write_text("")
    shutil.move(tmp_path / FOLDER, tmp_path / "unlabeled2017")
    benchmark = read("circo", tmp_path)
    assert len(benchmark.galleries["all"].pictures) == 60
    assert benchmark.differs == (
        "annotations/val.json: 3 here, 220 in the official release",
        "unlabeled2017: 60 here, 123,403 in the official release",
    )


def test_the_test_split_has_no_targets(tmp_path: Path) -> None:
    benchmark = read("circo", circo(tmp_path), split="test")
    assert not benchmark.has_targets and [query.truths for query in benchmark.queries] == [(), ()]


def test_what_is_missing_is_told_at_once(tmp_path: Path) -> None:
    circo(tmp_path)
    for number in (15, 16):  # right answers; the folder alone cannot tell that they should be there
        (tmp_path / FOLDER / f"{number:012d}.jpg").unlink()
    with pytest.raises(UserError, match=rf"lacks 2 of 60 pictures \({FOLDER}/{15:012d}\.jpg"):
        read("circo", tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(UserError, match=rf"lacks annotations/test\.json; {FOLDER}/: complete"):
        read("circo", tmp_path, split="test")
    with pytest.raises(UserError, match=r"gone: there is no such folder"):
        read("circo", tmp_path / "gone")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.update(gt_img_ids=[20]), "'gt_img_ids' lacks the target"),
        (lambda entry: entry.update(gt_img_ids=[15, 15]), "has a picture twice"),
        (lambda entry: entry.update(gt_img_ids=["15"]), "no list of whole numbers"),
        (lambda entry: entry.update(reference_img_id=-1), "no whole number"),
        (lambda entry: entry.update(id=True), "'id' is True and no whole number"),
        (lambda entry: entry.pop("relative_caption"), "has no 'relative_caption'"),
    ],
)
def test_a_malformed_entry_is_named_with_its_file(
    tmp_path: Path, change: Callable[[Entry], Any], words: str
) -> None:
    circo(tmp_path)
    edit_entry(tmp_path / "annotations/val.json", 0, change)
    with pytest.raises(UserError, match=f"val.json entry 1: .*{words}"):
        read("circo", tmp_path)


def test_a_right_answer_must_be_in_the_list(tmp_path: Path) -> None:
    circo(tmp_path, listed=True)
    picture(tmp_path / FOLDER / f"{99:012d}.jpg")
    edit(tmp_path / "annotations/val.json", lambda entries: entries[0].update(gt_img_ids=[15, 99]))
    with pytest.raises(UserError, match=r"val\.json id 0: 99 is not in .*image_info"):
        read("circo", tmp_path)


def test_an_id_that_stands_twice_is_refused(tmp_path: Path) -> None:
    circo(tmp_path)
    edit(tmp_path / "annotations/val.json", lambda entries: entries[1].update(id=0))
    with pytest.raises(UserError, match="has an id twice"):
        read("circo", tmp_path)
