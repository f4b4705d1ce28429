"""Captioned pictures: pairs of a picture's path and what it shows in words.

Two forms, told apart by the file's first character:

- JSONL: `{"image": "a.jpg", "caption": "a red chair"}` a line; other keys are left alone;
- LLaVA-Pretrain's JSON: a list of `{"image": "a.jpg", "conversations": [{"from": "human", "value": …},
  {"from": "gpt", "value": "a red chair"}]}`; the caption is what `gpt` says first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saga_ray.errors import UserError


@dataclass(frozen=True)
class Caption:
    """A picture and what it shows, neither blank."""

    image: str
    """A path, as the file has it."""
    text: str


def read_captions(path: Path) -> list[Caption]:
    """All captions of a file, in its order; no picture is looked for.

    Raises UserError, with the number of the line (in a JSON list: of the entry), for what is no caption.
    """
    try:
        content = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from error
    entries = _of_list(path, content) if content.lstrip().startswith("[") else _of_lines(path, content)
    found = [
        Caption(
            _text(entry.get("image"), "image", where),
            _said(entry, where)
            if "conversations" in entry
            else _text(entry.get("caption"), "caption", where),
        )
        for where, entry in entries
    ]
    if not found:
        raise UserError(f'{path}: has no captions; write {{"image": …, "caption": …}} a line')
    return found


def _of_lines(path: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    # not splitlines: JSON strings may hold other line separators than \n
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            where = f"{path} line {number}"
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{where}: is not JSON: {error}") from error
            yield where, _object(entry, where)


def _of_list(path: Path, content: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        entries = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON: {error}") from error
    for number, entry in enumerate(entries, 1):
        where = f"{path} entry {number}"
        yield where, _object(entry, where)


def _object(entry: Any, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise UserError(f'{where}: is no JSON object; write {{"image": …, "caption": …}}')
    return entry


def _said(entry: dict[str, Any], where: str) -> str:
    """What `gpt` says first."""
    turns = entry["conversations"]
    for turn in turns if isinstance(turns, list) else ():
        if isinstance(turn, dict) and turn.get("from") == "gpt":
            return _text(turn.get("value"), "value", where)
    raise UserError(f'{where}: `conversations` has no turn {{"from": "gpt", "value": …}} with the caption')


def _text(value: Any, name: str, where: str) -> str:
    # half characters (lone surrogates), which JSON can say and no file can hold, go
    text = value.encode("utf-8", "ignore").decode("utf-8").strip() if isinstance(value, str) else ""
    if not text:
        what = "missing" if value is None else "blank" if isinstance(value, str) else f"{value!r} and no text"
        raise UserError(f"{where}: `{name}` is {what}; write some text")
    return text
