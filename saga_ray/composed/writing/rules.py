"""Triplets by rule from a table whose columns name attributes: the same thing, but for one of them.

For a reference picture, an attribute and another value of it: the targets are all pictures that have this
value and equal the reference in all other named columns. A triplet is written only where that answer is
certain, over the whole table, since any of its pictures may be in the gallery:

- the targets are of one class, and all in the reference's split;
- no picture that lacks the value of a named column could be one too.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saga_ray.composed.writing import pictures
from saga_ray.config.names import nearest
from saga_ray.config.settings import DataSettings
from saga_ray.data import sources
from saga_ray.data.rows import Rows
from saga_ray.data.seeds import generator
from saga_ray.errors import UserError
from saga_ray.files import write_text

PHRASES = (
    "the same, but with {attribute} {value}",
    "change the {attribute} to {value}",
    "like this one, but the {attribute} is {value}",
    "{attribute} {value} instead, all else as it is",
)
LABEL = "label"
"""What `same` may name beside attribute columns: the class."""

SEVERAL = "several classes fit"
ELSEWHERE = "targets are in another split"
UNKNOWN = "a picture that might fit lacks a value"
NOT_KNOWN = "something of the reference is not known"

Values = tuple[str, ...]
"""Of the named columns, in their order; folded, and "" where unknown."""


@dataclass
class Found:
    """What the rules gave."""

    lines: list[dict[str, Any]] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    """Why -> answers (a reference picture with a new value) that were not written; for `NOT_KNOWN`
    references."""
    outside: int = 0
    """Written references that do not lie below the file's folder."""


@dataclass(frozen=True)
class _Table:
    """Rows by the values of the named columns."""

    rows_of: Mapping[Values, Sequence[int]]
    unknown: Sequence[Values]
    """Combinations with a value that is missing."""

    def could_be_more(self, wanted: Values) -> bool:
        """Whether a picture of which something is not known might have these values."""
        return any(
            all(value in ("", want) for value, want in zip(values, wanted, strict=True))
            for values in self.unknown
        )


def write_by_rules(
    source: str, output: Path, change: Sequence[str], same: Sequence[str], seed: int
) -> tuple[Found, int]:
    """Write the triplets of a data set or table to `output`, and the pictures that the table itself holds
    below `pictures` beside it; returns what was found and the number of these pictures.

    Raises:
        UserError: as `triplets` and `pictures.names`; or `output` exists, or nothing was found.
    """
    if output.exists():
        raise UserError(f"{output} exists; name a file that does not, or delete it")
    rows = sources.read(DataSettings(source=source))
    named = pictures.names(rows, output.parent)
    found = triplets(rows, named, change, same, seed)
    if not found.lines:
        reasons = ", ".join(f"{why}: {count:,}" for why, count in found.left_out.most_common())
        raise UserError(
            f"{source}: no triplet has a certain answer ({reasons or 'no two pictures differ in just one'}); "
            "name more columns with --same, or others with --rules"
        )
    found.outside = sum(Path(line["reference"]).is_absolute() for line in found.lines)
    output.parent.mkdir(parents=True, exist_ok=True)
    held = pictures.write_held(rows, named, output.parent)
    write_text(output, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in found.lines))
    return found, held


def triplets(
    rows: Rows, names: Sequence[str], change: Sequence[str], same: Sequence[str], seed: int
) -> Found:
    """Every triplet of which the answer is certain, in the table's order.

    `names` are the pictures' in the file; `change` are the attributes of which one is another in
    the target, `same` those (or `label`) that are never changed; `seed` chooses the words.

    Raises:
        UserError: a name is no attribute column of the table, or stands twice; a picture stands in two rows.
    """
    columns = _columns(rows, change, same)
    _must_differ(rows, names)
    table, values_of = _by_values(columns)
    changes = _changes(table, len(change))
    spoken = [name for name in columns if name != LABEL]
    found = Found()
    for row, values in enumerate(values_of):
        if "" in values:
            found.left_out[NOT_KNOWN] += 1
            continue
        for place, wanted in changes[values]:
            targets = table.rows_of[wanted]
            why = _uncertain(rows, row, targets) or (UNKNOWN if table.could_be_more(wanted) else "")
            if why:
                found.left_out[why] += 1
                continue
            attribute = change[place]
            value = columns[attribute][targets[0]]
            phrase = PHRASES[generator(seed, names[row], attribute, value).integers(len(PHRASES))]
            line = {
                "reference": names[row],
                "instruction": phrase.format(attribute=_spoken(attribute), value=value),
                "target": [names[target] for target in targets],
                "target_text": _text(columns, spoken, targets[0]),
                "reference_text": _text(columns, spoken, row),
                "kind": attribute,
            }
            found.lines.append(line | ({"split": rows.splits[row]} if rows.splits is not None else {}))
    return found


def _uncertain(rows: Rows, row: int, targets: Sequence[int]) -> str:
    if len({rows.labels[target] for target in targets}) > 1:
        return SEVERAL
    if rows.splits is not None and {rows.splits[target] for target in targets} != {rows.splits[row]}:
        return ELSEWHERE
    return ""


def _columns(rows: Rows, change: Sequence[str], same: Sequence[str]) -> dict[str, list[str]]:
    if not change:
        raise UserError("--rules names no attribute; name at least one column of the table")
    named = [*change, *same]
    for name in named:
        if name not in rows.attributes and not (name == LABEL and name in same):
            near = nearest(name, rows.attributes)
            there = f"its attributes are {', '.join(rows.attributes)}" if rows.attributes else "it has none"
            raise UserError(
                f"{rows.name}: the table has no attribute {name!r}; "
                + (f"did you mean {near!r}? " if near else "")
                + there
            )
        if named.count(name) > 1:
            raise UserError(f"{name!r} is named twice in --rules and --same; name it once")
    return {name: rows.labels if name == LABEL else rows.attributes[name] for name in named}


def _must_differ(rows: Rows, names: Sequence[str]) -> None:
    first: dict[str, int] = {}
    for row, picture in enumerate(names):
        before = first.setdefault(picture, row)
        if before != row:
            raise UserError(
                f"{rows.name}: {picture} stands in two rows, {rows.where[before]} and {rows.where[row]}; "
                "list each picture once"
            )


def _by_values(columns: Mapping[str, Sequence[str]]) -> tuple[_Table, list[Values]]:
    values_of: list[Values] = [
        tuple(value.casefold() for value in row) for row in zip(*columns.values(), strict=True)
    ]
    rows_of: dict[Values, list[int]] = defaultdict(list)
    for row, values in enumerate(values_of):
        rows_of[values].append(row)
    known = {values: found for values, found in rows_of.items() if "" not in values}
    return _Table(known, [values for values in rows_of if "" in values]), values_of


def _changes(table: _Table, changing: int) -> dict[Values, list[tuple[int, Values]]]:
    """For each combination those that differ in one of the first `changing` columns alone, with its place."""
    found: dict[Values, list[tuple[int, Values]]] = {values: [] for values in table.rows_of}
    for place in range(changing):
        alike: dict[tuple[Values, Values], list[Values]] = defaultdict(list)
        for values in table.rows_of:
            alike[values[:place], values[place + 1 :]].append(values)
        for group in alike.values():
            for values in group:
                found[values] += [(place, other) for other in group if other != values]
    return found


def _text(columns: Mapping[str, Sequence[str]], names: Sequence[str], row: int) -> str:
    return ", ".join(f"{_spoken(name)} {columns[name][row]}" for name in names)


def _spoken(name: str) -> str:
    return name.replace("_", " ")
