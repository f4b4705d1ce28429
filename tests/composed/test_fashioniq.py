"""FashionIQ: both galleries, both orders of the captions, blank captions, two forms of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import measures, read
from saga_ray.composed.benchmarks.fashioniq import clean, instructions
from saga_ray.errors import UserError
from tests.composed.releases import Entry, chance, edit, edit_entry, fashioniq, ranked

CATEGORIES = ("dress", "shirt", "toptee")


def test_the_gallery_is_the_whole_list_of_the_category_with_the_reference(tmp_path: Path) -> None:
    benchmark = read("fashioniq", fashioniq(tmp_path))
    assert (benchmark.split, benchmark.protocol) == ("val", "standard")
    for category in CATEGORIES:
        ids = [picture.id for picture in benchmark.galleries[category].pictures]
        assert ids == [f"{category[0].upper()}{number}" for number in range(5)]
        things = {picture.thing for picture in benchmark.galleries[category].pictures}
        assert things == {"dress" if category == "dress" else "shirt"}
    first = benchmark.queries[0]
    assert first.reference.thing == "dress"
    assert (first.id, first.kind, first.reference.id, first.targets) == ("dress/1", "dress", "D0", ("D1",))
    assert first.left_out == () and first.reference.id in benchmark.galleries["dress"].rows
    ranking = ranked(benchmark, lambda query, picture: float(picture.endswith("0")))[0]
    assert ranking.nearest[0] == "D0"


def test_the_captioned_gallery_holds_only_what_val_captions_name(tmp_path: Path) -> None:
    fashioniq(tmp_path)
    edit(tmp_path / "captions/cap.dress.val.json", lambda entries: entries[:2])
    (tmp_path / "images/D4.png").unlink()  # nobody asks for it under this protocol
    benchmark = read("fashioniq", tmp_path, protocol="captioned")
    assert [picture.id for picture in benchmark.galleries["dress"].pictures] == ["D0", "D1", "D2"]
    assert benchmark.protocol == "captioned"
    with pytest.raises(UserError, match=r"targets, which test hides; use the standard protocol"):
        read("fashioniq", tmp_path, split="test", protocol="captioned")


@pytest.mark.parametrize(
    ("captions", "said"),
    [
        (
            ("is longer. ", " has no sleeves?"),
            ("is longer and has no sleeves", "has no sleeves and is longer"),
        ),
        (("a, b.", "c"), ("a, b and c", "c and a, b")),
        (("  ", "is red,"), ("is red",)),
        (("is red", "..?"), ("is red",)),
        (("", "\n"), ("",)),
        (("same", "same"), ("same and same",)),
    ],
)
def test_captions_are_cleaned_and_joined_in_both_orders(
    captions: tuple[str, ...], said: tuple[str, ...]
) -> None:
    assert instructions(captions) == said
    assert clean(". is red? ,") == "is red"


def test_blank_captions_are_counted_and_a_query_without_words_is_left_out(tmp_path: Path) -> None:
    benchmark = read("fashioniq", fashioniq(tmp_path))
    assert [query.id for query in benchmark.queries[:3]] == ["dress/1", "dress/2", "shirt/1"]
    assert benchmark.counts == {"blank_captions": 9, "queries_left_out": 3}
    assert measures(benchmark, ranked(benchmark, chance))["queries_left_out"] == 3


def test_a_split_without_any_words_is_refused(tmp_path: Path) -> None:
    fashioniq(tmp_path)
    for category in CATEGORIES:
        edit(tmp_path / f"captions/cap.{category}.val.json", lambda entries: entries[2:])
    with pytest.raises(UserError, match="all captions of val are blank"):
        read("fashioniq", tmp_path)


def test_a_test_query_without_words_stays_since_the_challenge_wants_every_entry(tmp_path: Path) -> None:
    benchmark = read("fashioniq", fashioniq(tmp_path), split="test")
    assert [query.instructions for query in benchmark.queries if query.kind == "dress"][1] == ("",)
    assert not benchmark.has_targets and benchmark.counts["queries_left_out"] == 0
    with pytest.raises(UserError, match="test hides its targets"):
        measures(benchmark, ranked(benchmark, chance))


def test_the_jpeg_is_taken_where_a_png_lies_beside_it(tmp_path: Path) -> None:
    pictures = read("fashioniq", fashioniq(tmp_path)).galleries["dress"].pictures
    assert [Path(picture.path).name for picture in pictures] == [
        "D0.jpg",
        "D1.jpg",
        "D2.jpg",
        "D3.png",
        "D4.png",
    ]


def test_measures_are_means_over_categories_and_not_over_queries(tmp_path: Path) -> None:
    fashioniq(tmp_path)
    edit(tmp_path / "captions/cap.dress.val.json", lambda entries: entries[:1] * 3)
    many = [f"D{number}" for number in range(5)]
    edit(tmp_path / "image_splits/split.dress.val.json", lambda ids: many + [f"X{n}" for n in range(60)])
    for number in range(60):
        (tmp_path / f"images/X{number}.jpg").write_bytes((tmp_path / "images/D0.jpg").read_bytes())
    benchmark = read("fashioniq", tmp_path)
    place = {"dress/1": 5, "dress/2": 30, "dress/3": 60}

    def scores(query: str, picture: str) -> float:
        """The dress that is wanted stands at `place`, 65 in all; small galleries are found at once."""
        if not query.startswith("dress"):
            return 0.0
        if picture == "D1":
            return 65 - place[query] + 0.5
        return float(benchmark.galleries["dress"].rows[picture])

    found = measures(benchmark, ranked(benchmark, scores))
    assert found["recall@10/dress"] == pytest.approx(1 / 3)
    assert found["recall@50/dress"] == pytest.approx(2 / 3)
    assert found["recall@10"] == pytest.approx((1 / 3 + 1 + 1) / 3)
    assert found["recall@50"] == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert found["queries"] == 3 + 2 + 2


def test_sizes_that_are_not_official_are_said_and_no_error(tmp_path: Path) -> None:
    differs = read("fashioniq", fashioniq(tmp_path)).differs
    assert "captions/cap.dress.val.json: 3 here, 2,017 in the official release" in differs
    assert "image_splits/split.toptee.val.json: 5 here, 5,373 in the official release" in differs
    assert len(differs) == 6


def test_everything_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    fashioniq(tmp_path)
    for name in ("captions/cap.shirt.val.json", "image_splits/split.toptee.val.json", "images/D1.jpg"):
        (tmp_path / name).unlink()
    (tmp_path / "images/D2.jpg").unlink()  # its PNG is still there
    with pytest.raises(UserError) as caught:
        read("fashioniq", tmp_path)
    said = str(caught.value)
    assert "captions/cap.shirt.val.json; image_splits/split.toptee.val.json; 1 of 5 pictures" in said
    assert "images/D1.jpg" in said and "D2" not in said and "\n" not in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda entry: entry.pop("candidate"), "has no 'candidate'"),
        (lambda entry: entry.pop("target"), "has no 'target'"),
        (lambda entry: entry.update(target="S0"), "target S0 is not in the split's list"),
        (lambda entry: entry.update(captions=["one"]), "1 captions and not 2"),
        (lambda entry: entry.update(captions=["one", None]), "no list of texts"),
        (lambda entry: entry.update(candidate=7), "'candidate' is 7 and no text"),
    ],
)
def test_a_malformed_entry_is_named_with_its_file(
    tmp_path: Path, change: Callable[[Entry], Any], words: str
) -> None:
    fashioniq(tmp_path)
    edit_entry(tmp_path / "captions/cap.dress.val.json", 1, change)
    with pytest.raises(UserError, match=f"cap.dress.val.json entry 2: .*{words}"):
        read("fashioniq", tmp_path)


def test_a_picture_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    fashioniq(tmp_path)
    edit(tmp_path / "image_splits/split.dress.val.json", lambda ids: [*ids, "D0"])
    with pytest.raises(UserError, match="lists a picture twice"):
        read("fashioniq", tmp_path)
