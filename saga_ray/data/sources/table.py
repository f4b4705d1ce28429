"""A user's own table: CSV, Parquet or JSONL with the columns `image`, `label`, optionally `split`, and
attributes.

`image` is a path (absolute, or relative to the table's folder), an address (`s3://…`), or in Parquet the
encoded picture, also in Hugging Face's form {bytes, path}. All further columns are attributes: text, empty
where unknown.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from saga_ray.data.pictures import Source, is_address
from saga_ray.data.rows import Rows, split_name
from saga_ray.data.utf8 import is_utf8, printable
from saga_ray.errors import UserError

EXTENSIONS = {".csv", ".parquet", ".jsonl"}
Columns = dict[str, list[Any]]


def matches(path: str) -> bool:
    """A file's name with one of the three endings, whether the file is there or not."""
    return Path(path).suffix.lower() in EXTENSIONS


def rows(location: str | None, *, labelled: bool = True) -> Rows:
    """Read the table. Raises UserError for what is missing, with the file and the row; labels only where the
    pictures must be `labelled`.
    """
    if location is None:
        raise UserError("data.source=table needs data.root, a CSV, Parquet or JSONL file")
    path = Path(location)
    if not path.is_file():
        raise UserError(f"{path}: there is no such table")
    columns = _read(path)
    if not labelled:
        columns.setdefault("label", [""] * len(columns.get("image", [])))
    for name in ("image", "label"):
        if name not in columns:
            raise UserError(f"{path}: the table has no column {name!r}; its columns are {', '.join(columns)}")
    if not columns["image"]:
        raise UserError(f"{path}: the table has no rows")
    images = [_source(value, path.parent) for value in columns["image"]]
    texts = {name: [_text(value) for value in column] for name, column in columns.items() if name != "image"}
    place = [f"{path.name} row {number}" for number in range(1, len(images) + 1)]
    for label, spot in zip(texts["label"], place, strict=True):
        if labelled and not label:
            raise UserError(f"{spot}: the label is empty")
    for name, column in texts.items():
        for text, spot in zip(column, place, strict=True):
            if not is_utf8(text):
                raise UserError(
                    f"{spot}: {name!r} is {text!r}, with half a character (a lone surrogate), which no file "
                    "can hold; correct it"
                )
    splits = (
        [split_name(split, spot) for split, spot in zip(texts["split"], place, strict=True)]
        if "split" in texts
        else None
    )
    return Rows(
        name=path.stem,
        images=images,
        where=[
            f"{spot} ({printable(value)})" if isinstance(value, str) else spot
            for spot, value in zip(place, columns["image"], strict=True)
        ],
        labels=texts["label"],
        splits=splits,
        attributes={name: column for name, column in texts.items() if name not in ("label", "split")},
    )


def _read(path: Path) -> Columns:
    try:
        match path.suffix.lower():
            case ".csv":
                return _read_csv(path)
            case ".parquet":
                table = pq.read_table(path)
                return {name: table[name].to_pylist() for name in table.column_names}
            case _:
                return _read_jsonl(path)
    except (csv.Error, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a table: {str(error).splitlines()[0]}") from error


def _read_csv(path: Path) -> Columns:
    """Everything stays text: no label `NA` becomes nothing, no `007` becomes 7."""
    # spreadsheets put a byte order mark in front, which `utf-8-sig` takes away
    with path.open(encoding="utf-8-sig", newline="") as file:
        records = csv.reader(file)
        header = next(records, [])
        # spreadsheets write commas for empty columns too
        columns: Columns = {name: [] for name in header if name.strip()}
        for name in columns:
            if header.count(name) > 1:
                raise UserError(
                    f"{path}: {header.count(name)} columns are called {name!r}; rename all but one of them"
                )
        for record in records:
            if not record:
                continue
            if len(record) != len(header):
                raise UserError(
                    f"{path} line {records.line_num}: has {len(record)} fields, the first line {len(header)}"
                )
            for name, value in zip(header, record, strict=True):
                if name in columns:
                    columns[name].append(value)
    return columns


def _read_jsonl(path: Path) -> Columns:
    records: list[dict[str, Any]] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path} line {number}: is not JSON: {error}") from error
            if not isinstance(record, dict):
                raise UserError(f"{path} line {number}: is no JSON object")
            records.append(record)
    names = {name: None for record in records for name in record}
    return {name: [record.get(name) for record in records] for name in names}


def _source(value: Any, folder: Path) -> Source:
    """A picture's bytes or absolute path; b"" where the row has none."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return value
    if not value:
        return b""
    text = str(value)
    return text if is_address(text) else str((folder / text).absolute())


def _text(value: Any) -> str:
    # NaN is the only value that differs from itself
    return "" if value is None or value != value else str(value).strip()
