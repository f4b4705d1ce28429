"""What specialists look at: one vocabulary a kind of picture, kept as data files beside this module.

The paper's own three (birds, cars, aircraft) and the furniture set's ship with the project. A file has the
fields of `Vocabulary` apart from its name, which is the file's.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path

from saga_ray.errors import UserError

FOLDER = Path(__file__).parent / "vocabularies"

FIXED_KEYS = ("differences", "confidence", "reasoning")
"""Keys of the answer that every vocabulary shares."""

_KEY = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Vocabulary:
    """The words of an instruction (paper section 3) for one kind of picture."""

    name: str
    expert: str
    """Who can tell the classes apart: "ornithologist"."""
    what: str
    """What is told apart: "bird species"."""
    item: str
    """What one picture shows; the answer's descriptions are called ``{item}_1`` and ``{item}_2``."""
    example: str
    """A description as it should read."""
    verdict_question: str
    verdict_key: str
    """The answer's last key: "same_species"."""
    attributes: tuple[str, ...]
    """What a description covers, in this order."""

    def __post_init__(self) -> None:
        for field in ("expert", "what", "item", "example", "verdict_question", "verdict_key"):
            value = getattr(self, field)
            if not isinstance(value, str) or not value.strip() or value != value.strip() or "\n" in value:
                raise self._misfit(f"{field} must be one line of text")
        for field in ("item", "verdict_key"):
            value = getattr(self, field)
            if not _KEY.fullmatch(value):
                raise self._misfit(
                    f"{field} {value!r} becomes a JSON key: use lower-case letters, digits and underscores"
                )
        if self.verdict_key in (*FIXED_KEYS, *self.item_keys):
            raise self._misfit(
                f"the answer already has a key {self.verdict_key!r}; choose another verdict_key"
            )
        if not self.attributes:
            raise self._misfit("it names no attributes")
        for attribute in self.attributes:
            if not isinstance(attribute, str) or not attribute.strip() or set('"\\\n{}') & set(attribute):
                raise self._misfit(f"the attribute {attribute!r} is not a plain name")
            if self.attributes.count(attribute) > 1:
                raise self._misfit(f"the attribute {attribute!r} stands in it twice")

    def _misfit(self, why: str) -> UserError:
        return UserError(f"The vocabulary {self.name!r} does not fit the template: {why}.")

    @property
    def item_keys(self) -> tuple[str, str]:
        """The answer's keys for image a and image b."""
        return f"{self.item}_1", f"{self.item}_2"

    def restrict(self, attributes: Sequence[str]) -> Vocabulary:
        """The same vocabulary with these of its attributes, in this order.

        Raises:
            UserError: one of them is not in the vocabulary.
        """
        for attribute in attributes:
            if attribute not in self.attributes:
                raise self._misfit(f"it has no attribute {attribute!r}{_nearest(attribute, self.attributes)}")
        return Vocabulary(**{**vars(self), "attributes": tuple(attributes)})


def plain(name: str, attributes: Sequence[str]) -> Vocabulary:
    """The vocabulary of a table that has none of its own."""
    return Vocabulary(
        name=name,
        expert="specialist",
        what="classes of items",
        item="item",
        example=", ".join(attributes),
        verdict_question="are the two items of the same class?",
        verdict_key="same_class",
        attributes=tuple(attributes),
    )


def names() -> list[str]:
    """The vocabularies that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name_or_path: str | Path, folder: Path = Path()) -> Vocabulary:
    """A shipped vocabulary by its name, or one from a TOML file, which may be named from `folder`.

    Raises:
        UserError: there is none, or it does not fit the template.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        if str(name_or_path) not in names():
            near = _nearest(str(name_or_path), names())
            raise UserError(f"There is no vocabulary {str(name_or_path)!r}{near}; {', '.join(names())} ship.")
        path = FOLDER / f"{name_or_path}.toml"
    else:
        path = folder / path
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The vocabulary {path} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # malformed TOML or not UTF-8
        raise UserError(f"The vocabulary {path} is not a TOML file: {error}.") from error
    known = {field.name for field in fields(Vocabulary)} - {"name"}
    for key in content:
        if key not in known:
            near = _nearest(key, known)
            raise UserError(
                f"The vocabulary {path} does not fit the template: it has no field {key!r}{near}."
            )
    for key in sorted(known - set(content)):
        raise UserError(f"The vocabulary {path} does not fit the template: {key} is missing.")
    attributes = content.pop("attributes")
    if not isinstance(attributes, list):
        raise UserError(
            f"The vocabulary {path} does not fit the template: attributes must be a list of names."
        )
    return Vocabulary(name=path.stem, attributes=tuple(attributes), **content)


def write(vocabulary: Vocabulary, path: Path) -> None:
    """Write a TOML file that `load` reads."""
    named = {key: value for key, value in vars(vocabulary).items() if key != "name"}
    # JSON's strings and lists of them are TOML's too
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in named.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _nearest(word: str, known: Sequence[str] | set[str]) -> str:
    close = get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
