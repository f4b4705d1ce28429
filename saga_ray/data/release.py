"""Reading a release: JSON with its words checked, and all that is missing said at once."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from saga_ray.errors import UserError

Entry = dict[str, Any]

FEW = 3
"""Pictures that a sentence about missing ones names."""


class Release:
    """A benchmark's folder. Files are asked for by their path in it; what is not there is noted, and
    `refuse_if_incomplete` tells it all in one sentence.
    """

    def __init__(self, benchmark: str, root: Path) -> None:
        """Raises UserError where there is no such folder."""
        if not root.is_dir():
            raise UserError(
                f"{root}: there is no such folder; give that of the {benchmark} release, "
                "with --root or as data.root"
            )
        self.benchmark = benchmark
        self.root = root
        self._lacks: list[str] = []
        self._pictures: dict[str, None] = {}
        self._asked: set[str] = set()
        self._listed: dict[str, set[str]] = {}

    def has(self, file: str) -> bool:
        """Whether an annotation file is there; noted where it is not."""
        there = (self.root / file).is_file()
        if not there:
            self._lacks.append(file)
        return there

    def want_folder(self, folder: str) -> None:
        """Note a folder that is not there."""
        if not (self.root / folder).is_dir():
            self._lacks.append(f"{folder}/")

    def folder(self, *places: str) -> str:
        """The first of these folders that is there, or else the first of them."""
        return next((place for place in places if (self.root / place).is_dir()), places[0])

    def picture(self, *places: str) -> str:
        """Path of a picture: the first of these that is there; noted where none is."""
        self._asked.add(places[0])
        for place in places:
            if os.path.basename(place) in self.files_in(os.path.dirname(place)):
                return str(self.root / place)
        self._pictures[places[0]] = None
        return str(self.root / places[0])

    def files_in(self, folder: str) -> set[str]:
        """Names of the files in a folder; listed once, since asking for 123,403 files one by one is slow."""
        if folder not in self._listed:
            path = self.root / folder
            self._listed[folder] = set(os.listdir(path)) if path.is_dir() else set()
        return self._listed[folder]

    def refuse_if_incomplete(self) -> None:
        """Raises UserError where anything that was asked for is not there."""
        lacks = list(self._lacks)
        if self._pictures:
            few = ", ".join(list(self._pictures)[:FEW]) + (", …" if len(self._pictures) > FEW else "")
            lacks.append(f"{len(self._pictures):,} of {len(self._asked):,} pictures ({few})")
        if lacks:
            raise UserError(
                f"{self.benchmark}: {self.root} lacks {'; '.join(lacks)}: "
                "complete the release there, or give its folder, with --root or as data.root"
            )


def difference(what: str, found: int, official: int) -> list[str]:
    """One sentence where a number is not the official release's."""
    return [] if found == official else [f"{what}: {found:,} here, {official:,} in the official release"]


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises UserError for what is no JSON, and for an object with a key twice."""
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_object)
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON: {str(error).splitlines()[0]}") from error


def read_entries(path: Path) -> list[tuple[str, Entry]]:
    """A JSON list of objects, each with how to name it to a person: (where, entry)."""
    found = read_json(path)
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: holds no list of entries; get the file from the release again")
    named = [(f"{path} entry {number}", entry) for number, entry in enumerate(found, 1)]
    for where, entry in named:
        if not isinstance(entry, dict):
            raise UserError(f"{where}: is no JSON object; get the file from the release again")
    return named


def text(entry: Entry, name: str, where: str) -> str:
    """A field that holds text, perhaps blank."""
    value = _field(entry, name, where)
    if not isinstance(value, str):
        raise malformed(where, f"{name!r} is {value!r} and no text")
    return value


def texts(entry: Entry, name: str, where: str) -> tuple[str, ...]:
    """A field that holds a list of texts."""
    value = _field(entry, name, where)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise malformed(where, f"{name!r} is {value!r} and no list of texts")
    return tuple(value)


def number(entry: Entry, name: str, where: str) -> int:
    """A field that holds a whole number."""
    value = _field(entry, name, where)
    if not is_number(value):
        raise malformed(where, f"{name!r} is {value!r} and no whole number")
    return int(value)


def numbers(entry: Entry, name: str, where: str) -> tuple[int, ...]:
    """A field that holds a list of whole numbers."""
    value = _field(entry, name, where)
    if not isinstance(value, list) or not all(is_number(each) for each in value):
        raise malformed(where, f"{name!r} is {value!r} and no list of whole numbers")
    return tuple(value)


def is_number(value: Any) -> bool:
    """Whether a JSON value is a whole number that may name a picture or a query."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def malformed(where: str, what: str) -> UserError:
    """The error for an entry that no release has."""
    return UserError(f"{where}: {what}; correct it, or get the file from the release again")


def _field(entry: Entry, name: str, where: str) -> Any:
    if name not in entry:
        raise malformed(where, f"has no {name!r}")
    return entry[name]


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found
