"""Triplets by rule: each is right over the whole table, none that is certain is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from saga_ray.composed.benchmarks import read
from saga_ray.composed.benchmarks.triplets import parse
from saga_ray.composed.writing.rules import ELSEWHERE, NOT_KNOWN, SEVERAL, UNKNOWN, triplets, write_by_rules
from saga_ray.data.rows import Rows
from saga_ray.errors import UserError
from tests.composed.releases import picture

CHANGE, SAME = ["colour", "back_rest"], ["kind"]
COLUMNS = [*CHANGE, *SAME]


def rows(table: list[tuple[str, str, str, str, str]]) -> Rows:
    """(label, split, colour, back rest, kind) a row."""
    labels, splits, *columns = [list(column) for column in zip(*table, strict=True)]
    names = [f"{number}.jpg" for number in range(len(table))]
    return Rows("mine", [*names], names, labels, splits, dict(zip(COLUMNS, columns, strict=True)))


CHAIRS = [
    ("a", "train", "red", "high", "chair"),
    ("a", "train", "red", "high", "chair"),
    ("b", "train", "Blue", "high", "chair"),
    ("b", "train", "blue", "high", "chair"),
    ("c", "train", "blue", "low", "chair"),
    ("d", "train", "blue", "high", "lamp"),
]


def test_targets_are_all_pictures_that_differ_in_one_attribute_alone() -> None:
    found = triplets(rows(CHAIRS), rows(CHAIRS).where, CHANGE, SAME, seed=0)
    assert [(line["reference"], line["target"], line["kind"]) for line in found.lines] == [
        ("0.jpg", ["2.jpg", "3.jpg"], "colour"),
        ("1.jpg", ["2.jpg", "3.jpg"], "colour"),
        ("2.jpg", ["0.jpg", "1.jpg"], "colour"),
        ("2.jpg", ["4.jpg"], "back_rest"),
        ("3.jpg", ["0.jpg", "1.jpg"], "colour"),
        ("3.jpg", ["4.jpg"], "back_rest"),
        ("4.jpg", ["2.jpg", "3.jpg"], "back_rest"),
    ]
    line = found.lines[3]
    assert "back rest" in line["instruction"] and "low" in line["instruction"] and line["split"] == "train"
    assert line["target_text"] == "colour blue, back rest low, kind chair"
    assert line["reference_text"] == "colour Blue, back rest high, kind chair"
    assert not found.left_out


@pytest.mark.parametrize(
    "more, why",
    [
        (("e", "train", "blue", "high", "chair"), SEVERAL),
        (("b", "test", "blue", "high", "chair"), ELSEWHERE),
        (("e", "train", "", "high", "chair"), UNKNOWN),
        (("b", "train", "blue", "", ""), UNKNOWN),
    ],
)
def test_an_answer_that_is_not_certain_is_left_out(more: tuple[str, str, str, str, str], why: str) -> None:
    table = rows([*CHAIRS, more])
    found = triplets(table, table.where, CHANGE, SAME, seed=0)
    assert not any("2.jpg" in line["target"] for line in found.lines)
    assert found.left_out[why] and found.left_out[NOT_KNOWN] == ("" in more)


VALUES = st.sampled_from(["", "x", "X", "y", "z"])
TABLES = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from(["train", "test"]), VALUES, VALUES, VALUES), min_size=1
)


@given(TABLES, st.booleans(), st.integers(0, 3))
def test_every_triplet_is_right_and_none_is_missing(
    table: list[tuple[str, str, str, str, str]], by_label: bool, seed: int
) -> None:
    """Against the definition, row by row."""
    same = [*SAME, "label"] if by_label else SAME
    found = triplets(rows(table), rows(table).where, CHANGE, same, seed)
    values = [tuple(v.casefold() for v in row[2:]) + ((row[0],) if by_label else ()) for row in table]
    right = {}
    for reference, own in enumerate(values):
        for other in values:
            differ = [place for place, pair in enumerate(zip(own, other, strict=True)) if len(set(pair)) == 2]
            if "" in own or "" in other or len(differ) != 1 or differ[0] > 1:
                continue
            fits = [row for row, each in enumerate(values) if each == other]
            might = [
                row
                for row, each in enumerate(values)
                if "" in each and all(a in ("", b) for a, b in zip(each, other, strict=True))
            ]
            one_class = len({table[row][0] for row in fits}) == 1
            if one_class and {table[row][1] for row in fits} == {table[reference][1]} and not might:
                right[reference, other] = (differ[0], fits)
    written = {}
    for line in found.lines:
        reference = int(line["reference"].removesuffix(".jpg"))
        targets = [int(name.removesuffix(".jpg")) for name in line["target"]]
        assert reference not in targets and line["split"] == table[reference][1]
        value = table[targets[0]][2 + CHANGE.index(line["kind"])]
        assert value in line["instruction"] and "label" not in line["target_text"]
        written[reference, values[targets[0]]] = (CHANGE.index(line["kind"]), targets)
    assert written == right and len(found.lines) == len(right)


def test_the_words_are_seeded() -> None:
    said = [
        [
            line["instruction"]
            for line in triplets(rows(CHAIRS), rows(CHAIRS).where, CHANGE, SAME, seed=seed).lines
        ]
        for seed in (0, 0, 1, 2)
    ]
    assert said[0] == said[1] and len(set(map(tuple, said))) > 1


def csv(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("a", "b", "c"):
        picture(folder / f"pictures of mine/{name}.jpg")
    header = "image,label,colour,id"
    (folder / "table.csv").write_text("\n".join([header, *lines]))
    return folder / "table.csv"


LINES = ("pictures of mine/a.jpg,a,red,1", "./pictures of mine/b.jpg,b,blue,2")


def test_a_file_beside_the_pictures_is_evaluated(tmp_path: Path) -> None:
    output = tmp_path / "t" / "triplets.jsonl"
    found, held = write_by_rules(str(csv(tmp_path / "t", *LINES)), output, ["colour"], [], 0)
    assert (held, found.outside) == (0, 0)
    benchmark = read("triplets", output.parent)
    assert [(query.reference.id, query.targets) for query in benchmark.queries] == [
        ("pictures of mine/a.jpg", ("pictures of mine/b.jpg",)),
        ("pictures of mine/b.jpg", ("pictures of mine/a.jpg",)),
    ]
    assert "split" not in json.loads(output.read_text().splitlines()[0])


def test_pictures_elsewhere_are_named_in_full(tmp_path: Path) -> None:
    output = tmp_path / "elsewhere" / "triplets.jsonl"
    found, _ = write_by_rules(str(csv(tmp_path / "t", *LINES)), output, ["colour"], [], 0)
    assert found.outside == 2
    assert [triplet.reference for triplet in parse(output)][0] == str(tmp_path / "t/pictures of mine/a.jpg")


def test_the_shipped_furniture_becomes_a_benchmark(tmp_path: Path) -> None:
    output = tmp_path / "triplets.jsonl"
    change, same = ["colour", "surface"], ["kind", "height", "footprint"]
    found, held = write_by_rules("furniture", output, change, same, 0)
    assert held == 6360 == len(list((tmp_path / "pictures").rglob("*.jpg")))
    benchmark = read("triplets", tmp_path, split="test")
    assert len(benchmark.queries) > 500 and {query.kind for query in benchmark.queries} == set(change)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "triplets.jsonl"]
    with pytest.raises(UserError, match=r"pictures exists, and the table's pictures would go there"):
        write_by_rules("furniture", tmp_path / "more.jsonl", change, same, 0)
    assert not (tmp_path / "more.jsonl").exists()


@pytest.mark.parametrize(
    "lines, change, said",
    [
        (LINES, ["color"], r"no attribute 'color'; did you mean 'colour'\? its attributes are colour, id"),
        (LINES, ["label"], "no attribute 'label'"),
        (LINES, [], "--rules names no attribute"),
        (LINES, ["colour", "colour"], "'colour' is named twice"),
        (LINES, ["colour", "id"], r"no triplet has a certain answer \(no two pictures differ in just one\)"),
        ((*LINES, "c.jpg,c,blue,3", "d.jpg,d,red,4"), ["colour"], r"answer \(several classes fit: 4\); name"),
        ((*LINES, "x/../pictures of mine/b.jpg,b,blue,2"), ["colour"], "stands in two rows, table.csv row 2"),
        ((*LINES, ",b,blue,2"), ["colour"], "row 3.*has no picture"),
        ((*LINES, "s3://b/c.jpg,b,blue,2"), ["colour"], "is an address; copy the pictures"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(
    lines: tuple[str, ...], change: list[str], said: str, tmp_path: Path
) -> None:
    source = csv(tmp_path, *lines)
    output = tmp_path / "new" / "triplets.jsonl"
    with pytest.raises(UserError, match=said):
        write_by_rules(str(source), output, change, [], 0)
    assert not output.parent.exists()
