"""What a source of pictures knows before any picture is opened."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, field

from saga_ray.data.pictures import Source
from saga_ray.errors import UserError

SPLITS = ("train", "extra", "validation", "test")
"""Parts of a data set. `extra` holds pictures for the supervisor's training alone, none of them for the
encoder's."""

QUERY, GALLERY = "query", "gallery"
"""Roles of test pictures in a data set whose queries search a gallery of their own."""

SPELLINGS = {name: name for name in SPLITS} | {"val": "validation"}


@dataclass(frozen=True)
class Rows:
    """A data set as listed in a folder or file, one entry a picture in every list; nothing opened yet."""

    name: str
    images: list[Source]
    where: list[str]
    """How to tell a person which picture is meant: a path within the data set, or a row's number."""
    labels: list[str]
    splits: list[str] | None
    """None where the data has no split of its own."""
    attributes: dict[str, list[str]] = field(default_factory=dict)
    banner: int = 0
    """Pixels at the bottom of every picture that are no part of it (a line of credits, for example): they are
    cut off wherever a picture is decoded."""
    differs: tuple[str, ...] = ()
    """One sentence for each number that is not that of the official release, where there is one."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Files that lie among the pictures and are not read, by their ending; the most frequent first."""
    role_column: str | None = None
    """The attribute that says which pictures are queries and which the gallery that they search (`QUERY`,
    `GALLERY`); none: every test picture queries all the others."""

    def __post_init__(self) -> None:
        columns: list[Sized] = [self.images, self.where, self.labels, *self.attributes.values()]
        assert len({len(column) for column in columns}) == 1, "columns differ in length"


def split_name(value: str, where: str) -> str:
    """The split's proper name (`val` is `validation`), or an error that names the row."""
    name = SPELLINGS.get(value.strip().lower())
    if name is None:
        raise UserError(f"{where}: the split {value!r} is unknown; use {', '.join(SPELLINGS)}")
    return name
