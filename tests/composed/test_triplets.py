"""A user's own triplets: lines with their numbers, several targets, texts that only train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from saga_ray.composed.benchmarks import measures, read
from saga_ray.composed.benchmarks.triplets import file_of, parse
from saga_ray.errors import UserError
from tests.composed.releases import ranked, triplets


def line(**fields: Any) -> dict[str, Any]:
    return {"reference": "a.jpg", "instruction": "in red", "target": "b.jpg"} | fields


def test_the_gallery_is_the_folder_less_the_reference(tmp_path: Path) -> None:
    benchmark = read("triplets", triplets(tmp_path))
    assert [picture.id for picture in benchmark.galleries["all"].pictures] == [
        "a.jpg",
        "b.jpg",
        "d.webp",
        "sub/c.png",
    ]
    (query,) = benchmark.queries
    assert (query.id, query.instructions, query.targets) == ("1", ("in red",), ("b.jpg", "sub/c.png"))
    (ranking,) = ranked(benchmark, lambda _, picture: float(picture == "a.jpg"))
    assert sorted(ranking.nearest) == ["b.jpg", "d.webp", "sub/c.png"]


def test_any_target_counts_and_kinds_are_measured_apart(tmp_path: Path) -> None:
    lines = [
        line(target=["b.jpg", "sub/c.png"], kind="colour"),
        line(target="./d.webp", kind="shape"),
        line(reference="b.jpg", target="d.webp"),
    ]
    benchmark = read("triplets", triplets(tmp_path, lines))
    order = ["d.webp", "a.jpg", "b.jpg", "sub/c.png"]
    found = measures(benchmark, ranked(benchmark, lambda _, picture: float(order.index(picture))))
    assert found["recall@1"] == pytest.approx(1 / 3)
    assert (found["recall@1/colour"], found["recall@1/shape"]) == (1, 0)
    assert found["recall@5"] == 1 and "recall@1/" not in found


def test_another_file_of_triplets_can_be_named(tmp_path: Path) -> None:
    (triplets(tmp_path) / "triplets.jsonl").rename(tmp_path / "mine.jsonl")
    assert len(read("triplets", tmp_path / "mine.jsonl").queries) == 1
    for root in (tmp_path, tmp_path / "a.jpg", tmp_path / "gone.jsonl"):
        with pytest.raises(UserError, match=r"there are no triplets; give --root a JSONL file, or a folder"):
            file_of(root)


def test_a_split_takes_the_lines_that_name_it(tmp_path: Path) -> None:
    root = triplets(tmp_path, [line(split="train"), line(split="val"), line()])
    assert [query.id for query in read("triplets", root).queries] == ["1", "2", "3"]
    assert [query.id for query in read("triplets", root, split="validation").queries] == ["2"]
    with pytest.raises(UserError, match="no line has the split 'test'"):
        read("triplets", root, split="test")


def test_lines_with_a_text_alone_train_and_are_refused_in_evaluation(tmp_path: Path) -> None:
    both = line(target_text="a red chair")
    text_only = {"reference": "a.jpg", "instruction": "in red", "target_text": "a red chair"}
    root = triplets(tmp_path, [both, "", text_only])
    found = parse(file_of(root))
    assert [(each.line, each.targets, each.target_text) for each in found] == [
        (1, ("b.jpg",), "a red chair"),
        (3, (), "a red chair"),
    ]
    with pytest.raises(UserError, match=r"1 of 2 triplets, the first in line 3, have only `target_text`"):
        read("triplets", root)


def test_pictures_must_lie_in_the_folder(tmp_path: Path) -> None:
    root = triplets(tmp_path, [line(), line(target=["b.jpg", "x.jpg"]), line(reference="y.jpg")])
    with pytest.raises(UserError, match=r"2 pictures are not in .* \(x\.jpg in line 2, y\.jpg in line 3\)"):
        read("triplets", root)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ('{"reference": ', "is not JSON"),
        ("[1]", "is no JSON object"),
        (line(instruction="  "), "`instruction` is blank"),
        (line(instruction=None), "`instruction` is missing"),
        (line(instruction=5), "`instruction` is 5 and no text"),
        (line(reference=""), "`reference` is blank"),
        (line(target=[]), r"`target` is \[\]; write a picture's path"),
        (line(target=["b.jpg", 3]), r"`target` is \['b.jpg', 3\]"),
        (line(target=None), "has neither `target` nor `target_text`"),
        (line(target_text=" "), "`target_text` is blank"),
        (line(target=["b.jpg", "a.jpg"]), "reference a.jpg is its own target"),
        (line(kind=3), "`kind` is 3 and no text"),
        (line(split="eval"), "the split 'eval' is unknown"),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path: Path, bad: Any, words: str) -> None:
    root = triplets(tmp_path, [line(), "", bad])
    with pytest.raises(UserError, match=f"triplets.jsonl line 3: .*{words}") as caught:
        read("triplets", root)
    assert "\n" not in str(caught.value)


def test_a_file_without_lines_or_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no lines"):
        read("triplets", triplets(tmp_path, [""]))
    (tmp_path / "triplets.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read as text"):
        read("triplets", tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_matter(tmp_path: Path) -> None:
    file = triplets(tmp_path) / "triplets.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert len(read("triplets", tmp_path).queries) == 1
