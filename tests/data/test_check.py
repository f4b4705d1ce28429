"""`saga data check` finds what was planted, counts it, and finds nothing else."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from saga_ray.config.settings import DataSettings
from saga_ray.data.check import (
    DUPLICATE,
    KINDS,
    MISSING,
    ONE_CLASS,
    SINGLE,
    TWO_SPLITS,
    UNREADABLE,
    CheckReport,
    check,
)
from saga_ray.data.duplicates import near_duplicates
from saga_ray.data.examine import examine
from saga_ray.errors import UserError


def run(path: Path, **settings: Any) -> CheckReport:
    return check(DataSettings(source=str(path), **settings), seed=1)


def found(report: CheckReport) -> dict[str, int]:
    return {kind: count for kind, count in report.counts.items() if count}


def test_a_good_folder_is_clean(tree: Path) -> None:
    report = run(tree)
    assert report.clean and report.problems == []
    assert (report.images, report.classes) == (12, 4)
    assert report.split_classes == {"train": 2, "test": 2}
    assert "split by class, seed 1" in report.to_text() and report.to_text().endswith("\nclean")


def test_each_problem_is_found_once(tree: Path, blob: Any) -> None:
    (tree / "again.jpg").write_bytes((tree / "class0/0.jpg").read_bytes())
    image = Image.open(tree / "class1/1.jpg").resize((37, 37))
    image.save(tree / "smaller.png")
    (tree / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    (tree / "other.jpg").write_bytes(blob(500))
    lines = [f"class{label}/{n}.jpg,c{label},train" for label in range(3) for n in range(3)]
    lines += [f"class3/{n}.jpg,c3,test" for n in range(3)]
    lines += ["again.jpg,c3,test", "smaller.png,c3,test", "gone.jpg,c3,test", "broken.jpg,c3,test"]
    lines += ["other.jpg,alone,test", "class2/0.jpg,c2,extra"]
    (tree / "t.csv").write_text("\n".join(["image,label,split", *lines]))
    report = run(tree / "t.csv")
    # c2 has one picture in extra
    assert found(report) == {MISSING: 1, UNREADABLE: 1, SINGLE: 2, DUPLICATE: 2}
    of_kind = {problem.kind: problem for problem in report.problems}
    assert of_kind[MISSING].where == "t.csv row 15 (gone.jpg)"
    assert "broken.jpg" in of_kind[UNREADABLE].where
    duplicates = [
        f"{problem.where} {problem.detail}" for problem in report.problems if problem.kind == DUPLICATE
    ]
    assert duplicates == [
        "t.csv row 13 (again.jpg) (class c3, test) is the same file as "
        "t.csv row 1 (class0/0.jpg) (class c0, train)",
        "t.csv row 14 (smaller.png) (class c3, test) looks like t.csv row 5 (class1/1.jpg) (class c1, train)",
    ]
    assert not report.clean


def test_a_class_on_both_sides_is_a_problem_but_not_within_training(tree: Path) -> None:
    (tree / "t.csv").write_text(
        "image,label,split\n"
        + "".join(f"class0/{n}.jpg,both,{split}\n" for n, split in enumerate(["train", "train", "test"]))
        + "".join(
            f"class1/{n % 3}.jpg,seen,{split}\n" for n, split in enumerate(["train"] * 2 + ["extra"] * 2)
        )
    )
    report = run(tree / "t.csv")
    assert [problem.where for problem in report.problems if problem.kind == TWO_SPLITS] == ["class both"]
    assert found(report) == {SINGLE: 1, TWO_SPLITS: 1}


def test_text_lists_ten_examples_and_json_all(tree: Path) -> None:
    lines = [f"gone{n}.jpg,c{n % 2},{('train', 'test')[n % 2]}" for n in range(25)]
    (tree / "t.csv").write_text("\n".join(["image,label,split", *lines]))
    report = run(tree / "t.csv")
    text = report.to_text()
    assert (
        "missing file: 25" in text and text.count("there is no such file") == 10 and "… and 15 more" in text
    )
    data = json.loads(report.to_json())
    assert data["counts"] == dict.fromkeys(KINDS, 0) | {MISSING: 25}
    assert len(data["problems"]) == 25 and data["clean"] is False


def test_names_that_are_not_utf8_are_problems_that_can_be_printed(tree: Path) -> None:
    (tree / "class0/0.jpg").rename(tree / "class0" / os.fsdecode(b"caf\xe9.jpg"))
    (tree / "class1").rename(tree / os.fsdecode(b"\xe9t\xe9"))
    report = run(tree)
    assert found(report) == {UNREADABLE: 4}
    assert [problem.where for problem in report.problems] == [
        r"class0/caf\xe9.jpg",
        r"\xe9t\xe9/0.jpg",
        r"\xe9t\xe9/1.jpg",
        r"\xe9t\xe9/2.jpg",
    ]
    assert all("rename" in problem.detail for problem in report.problems)
    for text in (report.to_text(), report.to_json()):
        assert text.encode()


def test_a_table_may_name_a_picture_whose_name_is_not_utf8(tree: Path) -> None:
    (tree / "class0/0.jpg").rename(tree / "class0" / os.fsdecode(b"caf\xe9.jpg"))
    pictures = sorted(path.relative_to(tree) for path in tree.rglob("*.jpg"))
    lines = [json.dumps({"image": str(path), "label": path.parent.name}) for path in pictures]
    (tree / "t.jsonl").write_text("\n".join(lines))
    report = run(tree / "t.jsonl")
    assert found(report) == {UNREADABLE: 1}
    assert r"(class0/caf\xe9.jpg)" in report.problems[0].where and report.to_text().encode()


def test_a_single_class_is_a_problem_beside_the_others(tree: Path) -> None:
    for label in (1, 2, 3):
        shutil.rmtree(tree / f"class{label}")
    (tree / "class0/0.jpg").write_bytes(b"no picture")
    report = run(tree)
    assert found(report) == {UNREADABLE: 1, ONE_CLASS: 1}
    assert "all pictures are of one class, 'class0'; at least two are needed" in report.to_text()
    assert report.split_images == {"train": 3} and report.split_seed is None
    assert run(tree, test_share=0.0, validation_share=0.0).counts[ONE_CLASS] == 0


def test_files_that_are_left_out_are_said_and_no_problem(tree: Path) -> None:
    assert "left out" not in run(tree).to_text()
    for name in ("a.tif", "b.tif", "c.GIF", "notes"):
        (tree / "class0" / name).write_bytes(b"")
    report = run(tree)
    assert report.clean
    assert "\n  left out by their ending: 4 files (2 .tif, 1 .gif, 1 without one)\n" in report.to_text()
    assert json.loads(report.to_json())["left_out"] == {".tif": 2, ".gif": 1, "": 1}


def test_a_table_that_cannot_be_read_at_all_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such table"):
        run(tmp_path / "gone.parquet")


def drawing(colour: str, leg: int = 30) -> Image.Image:
    """A stool on white, as in a catalogue."""
    image = Image.new("RGB", (112, 112), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((30, 40, 80, 55), fill=colour)
    draw.rectangle((33, 55, 38, 55 + leg), fill=colour)
    draw.rectangle((72, 55, 77, 55 + leg), fill=colour)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_copies_are_near_duplicates_and_variants_are_not() -> None:
    stool = drawing("brown")
    copies = [
        encoded(stool),
        encoded(stool, "JPEG", quality=60),
        encoded(stool.resize((300, 300))),
        encoded(stool.resize((80, 80))),
    ]
    others = [
        encoded(drawing("saddlebrown")),
        encoded(drawing("blue")),
        encoded(drawing("brown", leg=45)),
        encoded(stool.transpose(Image.Transpose.FLIP_TOP_BOTTOM)),
    ]
    looks = [result.look for result in examine(copies + others, looks=True) if result.look]
    pairs = set(near_duplicates(looks, np.arange(len(looks))))
    assert pairs == {(i, j) for j in range(4) for i in range(j)}
    assert set(near_duplicates(looks, np.zeros(len(looks), dtype=np.int64))) == set()
    assert set(near_duplicates(looks, np.array([0, 0, 1, 1, 1, 1, 1, 1]))) == {(0, 2), (0, 3), (1, 2), (1, 3)}


def test_copies_are_found_across_chunks(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("saga_ray.data.duplicates.CHUNK", 5)
    images = [path.read_bytes() for path in sorted(tree.rglob("*.jpg"))]
    looks = [result.look for result in examine(images * 2, looks=True) if result.look]
    assert set(near_duplicates(looks, np.arange(24))) == {(row, row + 12) for row in range(12)}


def test_check_looks_at_the_split_that_training_would_use(tree: Path) -> None:
    report = run(tree)
    assert report.clean
    shutil.copy(tree / "class0/0.jpg", tree / "class1/copy.jpg")
    counts = {seed: check(DataSettings(source=str(tree)), seed).counts[DUPLICATE] for seed in range(8)}
    assert set(counts.values()) == {0, 1}, (
        "a copy matters only where the seed puts the two classes on two sides"
    )


def test_the_furniture_set_that_ships_is_clean() -> None:
    report = check(DataSettings(source="furniture"), seed=1)
    assert report.clean, report.to_text()
    assert report.split_seed is None and set(report.split_images) == {"train", "extra", "validation", "test"}
