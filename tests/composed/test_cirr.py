"""CIRR: the reference leaves the gallery, the subset is ranked apart, soft targets count nowhere."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import measures, read
from saga_ray.errors import UserError
from tests.composed.releases import Entry, chance, cirr, edit, edit_entry, ranked

CAPTIONS = "cirr/captions/cap.rc2.val.json"


def name(number: int) -> str:
    return f"dev-{number}-0-img0"


def test_the_reference_is_never_ranked_and_all_others_are(tmp_path: Path) -> None:
    benchmark = read("cirr", cirr(tmp_path))
    rankings = ranked(benchmark, lambda query, picture: float(picture == name(int(query) - 100)))
    for query, ranking in zip(benchmark.queries, rankings, strict=True):
        assert query.reference.id not in ranking.nearest and len(ranking.nearest) == 50
        assert len(benchmark.candidate_rows(query)) == 59


def test_the_subset_is_the_five_other_members_in_the_order_of_their_scores(tmp_path: Path) -> None:
    benchmark = read("cirr", cirr(tmp_path))
    ranking = ranked(benchmark, lambda query, picture: float(picture.split("-")[1]))[1]
    assert ranking.members == tuple(name(number) for number in (6, 5, 4, 3, 2))
    assert ranking.nearest[0] == name(59)


def test_measures_against_a_second_computation(tmp_path: Path) -> None:
    benchmark = read("cirr", cirr(tmp_path))
    places, subset_places = [], []
    for query in benchmark.queries:
        (target,) = query.targets
        own = {picture: chance(query.id, picture) for picture in benchmark.galleries["all"].rows}
        del own[query.reference.id]
        places.append(sum(score > own[target] for score in own.values()))
        subset_places.append(sum(own[member] > own[target] for member in query.members))
    found = measures(benchmark, ranked(benchmark, chance))
    for k in (1, 5, 10, 50):
        assert found[f"recall@{k}"] == pytest.approx(sum(place < k for place in places) / 3)
    for k in (1, 2, 3):
        assert found[f"recall_subset@{k}"] == pytest.approx(sum(place < k for place in subset_places) / 3)
    assert found["summary"] == pytest.approx((found["recall@5"] + found["recall_subset@1"]) / 2)


def test_a_reference_among_soft_targets_is_counted_and_changes_nothing(tmp_path: Path) -> None:
    before = read("cirr", cirr(tmp_path))
    assert before.counts == {"reference_among_soft_targets": 1, "blank_instructions": 0}
    edit(tmp_path / CAPTIONS, lambda entries: entries[1].update(target_soft={name(3): 1.0}))
    after = read("cirr", tmp_path)
    assert after.counts["reference_among_soft_targets"] == 0
    assert measures(before, ranked(before, chance)) == measures(after, ranked(after, chance))


def test_the_test_split_has_no_targets_and_keeps_a_blank_caption(tmp_path: Path) -> None:
    benchmark = read("cirr", cirr(tmp_path), split="test1")
    assert not benchmark.has_targets
    assert benchmark.queries[2].instructions == ("",) and benchmark.counts["blank_instructions"] == 1


def test_pictures_may_lie_where_the_authors_put_them(tmp_path: Path) -> None:
    cirr(tmp_path)
    (tmp_path / "cirr/img_raw").mkdir()
    shutil.move(tmp_path / "dev", tmp_path / "cirr/img_raw/dev")
    picture = read("cirr", tmp_path).galleries["all"].pictures[0]
    assert picture.path == str(tmp_path / f"cirr/img_raw/dev/{name(0)}.png")


def test_what_is_missing_and_what_differs_is_said(tmp_path: Path) -> None:
    cirr(tmp_path)
    assert read("cirr", tmp_path).differs == (
        f"{CAPTIONS}: 3 here, 4,181 in the official release",
        "cirr/image_splits/split.rc2.val.json: 60 here, 2,297 in the official release",
    )
    (tmp_path / CAPTIONS).unlink()
    shutil.rmtree(tmp_path / "dev")
    words = rf"lacks {CAPTIONS}; 60 of 60 pictures \(dev/{name(0)}\.png, dev/{name(1)}\.png, .*, …\)"
    with pytest.raises(UserError, match=words):
        read("cirr", tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("img_set"), "has no 'img_set'"),
        (lambda entry: entry["img_set"]["members"].pop(), "'members' are not 6 pictures"),
        (lambda entry: entry["img_set"]["members"].__setitem__(0, name(1)), "'members' are not 6 pictures"),
        (lambda entry: entry["img_set"]["members"].__setitem__(0, "x"), "with the reference among them"),
        (
            lambda entry: entry["img_set"]["members"].__setitem__(4, "x"),
            "picture x is not in the split's list",
        ),
        (lambda entry: entry.update(target_hard=name(40)), "target is not among the other members"),
        (lambda entry: entry.update(target_hard=name(0)), "target is not among the other members"),
        (lambda entry: entry.pop("target_hard"), "has no 'target_hard'"),
        (lambda entry: entry.update(pairid="one"), "'pairid' is 'one' and no whole number"),
        (lambda entry: entry.update(caption=None), "'caption' is None and no text"),
    ],
)
def test_a_malformed_entry_is_named_with_its_file(
    tmp_path: Path, change: Callable[[Entry], Any], words: str
) -> None:
    cirr(tmp_path)
    edit_entry(tmp_path / CAPTIONS, 0, change)
    with pytest.raises(UserError, match=f"cap.rc2.val.json entry 1: .*{words}"):
        read("cirr", tmp_path)


def test_a_pairid_or_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    cirr(tmp_path)
    listing = tmp_path / "cirr/image_splits/split.rc2.val.json"
    listing.write_text(listing.read_text().replace(f'"{name(1)}":', f'"{name(0)}":'))
    with pytest.raises(UserError, match=f"the key '{name(0)}' stands twice"):
        read("cirr", tmp_path)
    cirr(tmp_path)
    edit(tmp_path / CAPTIONS, lambda entries: entries[1].update(pairid=100))
    with pytest.raises(UserError, match="has a pairid twice"):
        read("cirr", tmp_path)
