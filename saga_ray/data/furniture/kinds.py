"""What a thing is and what it is for, from the words of its name, by the rules in `kinds.txt`."""

from __future__ import annotations

import fnmatch
from functools import cache
from pathlib import Path

RULES_FILE = Path(__file__).with_name("kinds.txt")


@cache
def rules() -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """(kind, use, patterns) of each line of the file, in its order."""
    found = []
    for line in RULES_FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            head, _, patterns = line.partition(": ")
            kind, _, use = head.partition(" / ")
            found.append((kind, use, tuple(patterns.split(", "))))
    return tuple(found)


def kind_and_use(words: str) -> tuple[str, str]:
    """The kind and the use of a thing from its name in lower-case words.

    Raises:
        KeyError: no rule knows the name: add it to `kinds.txt`.
    """
    for kind, use, patterns in rules():
        if any(fnmatch.fnmatchcase(words, pattern) for pattern in patterns):
            return kind, use
    raise KeyError(words)
