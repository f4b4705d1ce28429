"""A user's folder or table becomes rows; what is wrong is said in one sentence with the place."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from saga_ray.config.settings import DataSettings
from saga_ray.data import sources
from saga_ray.errors import UserError


def read(path: Path | str) -> Any:
    return sources.read(DataSettings(source=str(path)))


def test_sources_are_found_by_listing_the_folder() -> None:
    assert {"folder", "furniture", "table"} <= set(sources.names())


def test_folder_per_class_is_read_in_the_order_of_paths(tree: Path) -> None:
    rows = read(tree)
    assert rows.name == "animals"
    assert rows.labels == sorted(rows.labels) and len(rows.labels) == 12
    assert rows.where[:4] == ["class0/0.jpg", "class0/1.jpg", "class0/2.jpg", "class1/0.jpg"]
    assert rows.splits is None
    assert Path(rows.images[0]).read_bytes() == (tree / "class0/0.jpg").read_bytes()


def test_folder_leaves_hidden_files_and_other_endings_alone_and_looks_into_nested_folders(
    tree: Path, blob: Any
) -> None:
    for name in ("class0/._0.jpg", "class0/.hidden/1.jpg", ".git/x/1.jpg", "class0/notes.txt", "loose.jpg"):
        (tree / name).parent.mkdir(exist_ok=True, parents=True)
        (tree / name).write_bytes(blob(0))
    (tree / "class0/a/b").mkdir(parents=True)
    for ending in ("PNG", "webp", "bmp", "JPEG"):
        (tree / f"class0/a/b/x.{ending}").write_bytes(blob(1, kind="JPEG" if ending == "JPEG" else ending))
    rows = read(tree)
    assert len(rows.images) == 12 + 4
    assert sum(label == "class0" for label in rows.labels) == 3 + 4
    assert "class0/a/b/x.PNG" in rows.where


def test_folders_named_like_splits_are_splits_only_if_all_are(tree: Path) -> None:
    for split in ("train", "val"):
        for label in ("class0", "class1"):
            (tree.parent / "split" / split).mkdir(parents=True, exist_ok=True)
            (tree / label).rename(tree.parent / "split" / split / f"{split}-{label}")
            (tree.parent / "back").mkdir(exist_ok=True)
        for label in ("class2", "class3"):
            if (tree / label).exists():
                (tree / label).rename(tree / ("class0" if label == "class2" else "class1"))
    rows = read(tree.parent / "split")
    assert set(zip(rows.labels, rows.splits, strict=True)) == {
        ("train-class0", "train"),
        ("train-class1", "train"),
        ("val-class0", "validation"),
        ("val-class1", "validation"),
    }
    (tree.parent / "split" / "val").rename(tree.parent / "split" / "oak")
    rows = read(tree.parent / "split")
    assert rows.splits is None and set(rows.labels) == {"train", "oak"}


def test_all_table_formats_say_the_same(tree: Path) -> None:
    paths = sorted(path.relative_to(tree).as_posix() for path in tree.rglob("*.jpg"))
    frame = pd.DataFrame(
        {
            "image": paths,
            "label": [path.split("/")[0] for path in paths],
            "split": ["train"] * 6 + ["val"] * 3 + ["test"] * 3,
            "colour": ["red", "", "NA", "007"] * 3,
        }
    )
    frame.to_csv(tree / "t.csv", index=False)
    frame.to_parquet(tree / "t.parquet")
    (tree / "t.jsonl").write_text("\n".join(json.dumps(row) for row in frame.to_dict("records")))
    content = [(tree / path).read_bytes() for path in paths]
    pq.write_table(pa.table({**frame.to_dict("list"), "image": content}), tree / "bytes.parquet")
    hugging_face = [
        {"bytes": None if row % 2 else data, "path": paths[row]} for row, data in enumerate(content)
    ]
    pq.write_table(pa.table({**frame.to_dict("list"), "image": hugging_face}), tree / "hf.parquet")
    frame.assign(image=[f"file://{tree / path}" for path in paths]).to_csv(
        tree / "addresses.csv", index=False
    )
    tables = {
        name: sources.load(DataSettings(source=str(tree / name)), seed=0)
        for name in ("t.csv", "t.parquet", "t.jsonl", "bytes.parquet", "hf.parquet", "addresses.csv")
    }
    first = tables["t.csv"]
    assert first.attributes == {"colour": ["red", "", "NA", "007"] * 3}
    assert first.split.tolist() == ["train"] * 6 + ["validation"] * 3 + ["test"] * 3
    for name, table in tables.items():
        assert table.hash == first.hash, name
        assert table.attributes == first.attributes, name
        assert (table.read_image(5, 24) == first.read_image(5, 24)).all(), name


def test_unknown_and_missing_attributes_are_empty(tmp_path: Path) -> None:
    records = [{"image": "a.jpg", "label": 1, "size": None}, {"image": "b.jpg", "label": 2, "extra": 1.5}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n\n")
    rows = read(tmp_path / "t.jsonl")
    assert rows.labels == ["1", "2"]
    assert rows.attributes == {"size": ["", ""], "extra": ["", "1.5"]}
    assert rows.where == ["t.jsonl row 1 (a.jpg)", "t.jsonl row 2 (b.jpg)"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.csv", "picture,label\na.jpg,x\n", ["t.csv", "'image'", "picture, label"]),
        ("t.csv", "image,name\na.jpg,x\n", ["t.csv", "'label'"]),
        ("t.csv", "image,label\n", ["t.csv", "no rows"]),
        ("t.csv", "", ["t.csv", "'image'"]),
        ("t.csv", "image,label\na.jpg,x\nb.jpg,\n", ["row 2", "label is empty"]),
        ("t.csv", "image,label,split\na.jpg,x,train\nb.jpg,y,eval\n", ["row 2", "'eval'", "validation"]),
        ("t.csv", "image,label\na.jpg,x\nb.jpg,x,1\n", ["t.csv line 3", "3 fields"]),
        ("t.csv", "image,label,size,size\na.jpg,x,1,2\n", ["t.csv", "2 columns", "'size'", "rename"]),
        ("t.csv", "image,label,,\na.jpg,x,\n", ["t.csv line 2", "3 fields", "first line 4"]),
        ("t.jsonl", '{"image": "a.jpg", "label": "x"}\n{"image"\n', ["line 2", "not JSON"]),
        ("t.jsonl", r'{"image": "a.jpg", "label": "\ud83d"}', ["row 1", r"'\ud83d'", "half a character"]),
        ("t.jsonl", "[1]\n", ["line 1", "no JSON object"]),
        ("t.parquet", "hello", ["t.parquet", "cannot be read"]),
    ],
)
def test_bad_tables_get_one_sentence(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read(tmp_path / name)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    # spreadsheets write `image,label,,` where a cell beside the table was once filled
    (tmp_path / "t.csv").write_text("image,label,, ,\na.jpg,x,,,\nb.jpg,y,seen,,\n")
    rows = read(tmp_path / "t.csv")
    assert rows.labels == ["x", "y"] and rows.attributes == {}


def test_damaged_parquet_gets_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    frame = pd.DataFrame({"image": ["a.jpg"] * 50, "label": [str(number) for number in range(50)]})
    frame.to_parquet(path, compression=None)
    whole = path.read_bytes()
    for start in range(4, len(whole) - 8, 40):
        path.write_bytes(whole[:start] + b"\xff" * 30 + whole[start + 30 :])
        try:
            read(path)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)


def test_the_home_folder_may_be_written_as_a_tilde(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tree.parent))
    (tree / "t.csv").write_text("image,label\nclass0/0.jpg,x\n")
    assert read("~/animals") == read(tree)
    assert read("~/animals/t.csv") == read(tree / "t.csv")
    for name, root in (("folder", "~/animals"), ("table", "~/animals/t.csv")):
        assert sources.read(DataSettings(source=name, root=root)) == read(root)
    with pytest.raises(UserError, match="there is no such folder"):
        sources.read(DataSettings(source="folder", root="~nobody-of-this-name/animals"))


def test_files_with_other_endings_are_counted(tree: Path, blob: Any) -> None:
    for name in ("class0/a.tif", "class1/b.TIF", "class1/deep/c.gif", "class2/README", "class2/.hidden.gif"):
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_bytes(blob(0))
    rows = read(tree)
    assert rows.left_out == {".tif": 2, ".gif": 1, "": 1}
    assert len(rows.images) == 12


def test_a_place_whose_name_is_not_utf8_is_refused(tree: Path) -> None:
    odd = tree.rename(Path(os.fsdecode(os.fsencode(tree) + b"\xe9")))
    (odd / "t.csv").write_text("image,label\nclass0/0.jpg,x\n")
    for path in (odd, odd / "t.csv"):
        with pytest.raises(UserError, match=r"animals\\xe9.*is not UTF-8; rename") as caught:
            read(path)
        assert str(caught.value).isascii()


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"did you mean furniture\?"):
        read("furnitur")
    with pytest.raises(UserError, match=r"gone\.csv: there is no such table"):
        read(tmp_path / "gone.csv")
    with pytest.raises(UserError, match="neither a data set"):
        read(tmp_path / "gone")
    with pytest.raises(UserError, match="there are no pictures"):
        read(tmp_path)
    with pytest.raises(UserError, match=r"needs data\.root"):
        read("folder")


def test_a_source_can_be_named_with_its_root(tree: Path) -> None:
    rows = sources.read(DataSettings(source="folder", root=str(tree)))
    assert rows == read(tree)
