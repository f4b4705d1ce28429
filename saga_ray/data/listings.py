"""What the readers of public data sets share: lists in text files, and sizes to compare with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from saga_ray.data.release import Release, difference, malformed
from saga_ray.errors import UserError


def open_release(name: str, location: str | None, folder: str | None = None) -> Release:
    """A public data set's release: `location`, or the folder of this name in it where the archive makes one.

    Raises UserError where `location` is not given or no folder.
    """
    if location is None:
        raise UserError(f"data.source={name} needs data.root, the folder of the {name} release")
    root = Path(location)
    return Release(name, root / folder if folder and (root / folder).is_dir() else root)


def read_rows(path: Path, fields: int, *, header: int = 0) -> Iterator[tuple[str, list[str]]]:
    """Each line's fields, with how to name the line to a person: (where, fields).

    Fields stand between blanks; the last is the rest of the line, blanks and all. `header` lines and empty
    ones are passed over. Raises UserError for a line with fewer fields and for what is no text.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                found = line.strip().split(maxsplit=fields - 1)
                if number <= header or not found:
                    continue
                where = f"{path} line {number}"
                if len(found) < fields:
                    raise malformed(where, f"has {len(found)} fields and not {fields}")
                yield where, found
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as a list: {error}") from error


def read_names(path: Path) -> dict[str, str]:
    """A list with rows `id name`, in its order. Raises UserError for an id or a name that stands twice."""
    names: dict[str, str] = {}
    known: set[str] = set()
    for where, (key, name) in read_rows(path, 2):
        if key in names or name in known:
            raise malformed(where, f"{key} {name} repeats an earlier line")
        names[key] = name
        known.add(name)
    return names


def differences(
    labels: Sequence[str], parts: Sequence[str], official: Mapping[str, tuple[int, int]]
) -> tuple[str, ...]:
    """A sentence for every part whose number of pictures or classes is not the official release's.

    `parts` names each row's part; `official` is (pictures, classes) of each part.
    """
    pictures = Counter(parts)
    classes = Counter(part for part, _ in set(zip(parts, labels, strict=True)))
    return tuple(
        sentence
        for part, (own_pictures, own_classes) in official.items()
        for sentence in (
            *difference(f"{part} pictures", pictures[part], own_pictures),
            *difference(f"{part} classes", classes[part], own_classes),
        )
    )
