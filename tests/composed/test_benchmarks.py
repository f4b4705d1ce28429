"""Which benchmarks there are, and what every reader does alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_ray.composed.benchmarks import names, read
from saga_ray.errors import UserError
from tests.composed import releases


def test_benchmarks_are_found_by_listing_the_folder_and_choices_are_named(tmp_path: Path) -> None:
    assert names() == ["circo", "cirr", "fashioniq", "furniture", "genecis", "triplets"]
    with pytest.raises(
        UserError, match=r"unknown benchmark 'circ' \(did you mean 'circo'\?\); choose one of"
    ):
        read("circ", tmp_path)
    with pytest.raises(UserError, match="cirr has no split 'test'; choose one of val, test1"):
        read("cirr", tmp_path, split="test")
    with pytest.raises(UserError, match="circo has no protocol 'captioned'; choose one of standard"):
        read("circo", tmp_path, protocol="captioned")


def test_pictures_have_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    releases.triplets(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    pictures = read("triplets", Path("mine")).galleries["all"].pictures
    assert pictures[0].path == str(tmp_path / "mine/a.jpg")


def test_an_annotation_that_is_no_list_is_refused(tmp_path: Path) -> None:
    releases.circo(tmp_path)
    for content, words in (({}, "holds no list"), ([], "holds no list"), ([1], "entry 1: is no JSON object")):
        releases.write(tmp_path / "annotations/val.json", content)
        with pytest.raises(UserError, match=words):
            read("circo", tmp_path)
