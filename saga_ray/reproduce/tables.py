"""What a paper reports, as data: tables, their rows, the run whose arm is a row, the paper's numbers.

Its files are ``jobs/reproduce/*.toml``. Numbers are in per cent, as papers print them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Container, Iterable
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from saga_ray.config.names import nearest, shipped
from saga_ray.config.settings import ARM_NAMES, Section
from saga_ray.errors import UserError

Percent = Annotated[float, Field(ge=0, le=100)]
Numbers = Annotated[list[Percent], Field(min_length=1, max_length=2)]
"""R@1, then R@4 where the paper gives it."""


class Row(Section):
    """One row of tables: an arm of a run on each data set."""

    title: str
    arm: str
    preset: str | None = None
    """Preset or settings file, where it is not the paper's own pattern; the same fields are filled in."""
    set: list[str] = Field(default_factory=list)
    """Settings that differ from the preset, as `saga train --set` takes them."""
    paper: dict[str, Numbers] = Field(default_factory=dict)
    """By data set."""


class Table(Section):
    """Rows on data sets."""

    title: str
    data: Annotated[list[str], Field(min_length=1)]
    """Data sets that it is about unless others are asked for."""
    rows: Annotated[list[str], Field(min_length=1)]


class Paper(Section):
    """All that is known of a paper's results."""

    title: str
    source: str
    preset: str
    """Of a row's run, by ``{data}`` and ``{model}``."""
    model: str
    """The supervisor that the paper's numbers are of."""
    models: list[str]
    """Those that there are presets of."""
    data: dict[str, str]
    """Data sets by their name in presets -> in tables."""
    rows: dict[str, Row]
    tables: dict[str, Table]

    @model_validator(mode="after")
    def _fits_together(self) -> Paper:
        if self.model not in self.models:
            raise ValueError(f"model: {self.model!r} is not among models")
        for name, row in self.rows.items():
            if row.arm not in ARM_NAMES:
                raise ValueError(
                    f"rows.{name}: {row.arm!r} is not an arm; choose from {', '.join(ARM_NAMES)}"
                )
            _known(f"rows.{name}.paper", row.paper, "data", self.data)
        for name, table in self.tables.items():
            _known(f"tables.{name}.data", table.data, "data", self.data)
            _known(f"tables.{name}.rows", table.rows, "rows", self.rows)
        return self

    def table(self, name: str) -> Table:
        """A table by its name.

        Raises:
            UserError: there is none of that name.
        """
        if name in self.tables:
            return self.tables[name]
        meant = nearest(name, self.tables)
        hint = f"did you mean {meant!r}? " if meant else ""
        raise UserError(f"--table {name}: {hint}the tables of {self.title} are {', '.join(self.tables)}")

    def numbers(self, row: str, data: str, model: str) -> list[float]:
        """The paper's R@1 and R@4 of a row, as far as it gives them for this supervisor."""
        return self.rows[row].paper.get(data, []) if model == self.model else []


def paper_names() -> list[str]:
    """The papers that ship."""
    return sorted(path.stem for path in _folder().glob("*.toml"))


def read_paper(name_or_path: str) -> Paper:
    """A paper by its name, or by a TOML file of one.

    Raises:
        UserError: there is none, it is no TOML, or something in it is wrong.
    """
    path = _find(name_or_path)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not TOML: {error}") from error
    try:
        return Paper.model_validate(values)
    except ValidationError as error:
        # A name that is wrong is the reason why the right one is missing.
        first = min(error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden")
        where = ".".join(map(str, first["loc"]))
        unknown = first["type"] == "extra_forbidden"
        said = "there is no such key" if unknown else first["msg"].removeprefix("Value error, ")
        raise UserError(f"{path}: {where}{': ' * bool(where)}{said}") from error


def _known(where: str, named: Iterable[str], what: str, known: Container[str]) -> None:
    unknown = [each for each in named if each not in known]
    if unknown:
        raise ValueError(f"{where}: {unknown[0]!r} is not in {what}")


def _folder() -> Path:
    return shipped("jobs/reproduce", "reproduce")


def _find(name_or_path: str) -> Path:
    names = paper_names()
    if name_or_path in names:
        return _folder() / f"{name_or_path}.toml"
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    meant = nearest(name_or_path, names)
    hint = f"did you mean {meant!r}? " if meant else ""
    raise UserError(
        f"there is no paper {name_or_path!r}; {hint}there is {', '.join(names)}, or give a TOML file"
    )
