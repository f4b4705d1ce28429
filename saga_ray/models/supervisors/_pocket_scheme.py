"""How a pocket supervisor writes its answer: the paper's JSON object, cut into tokens that are whole
fragments of it.

An answer is the plain concatenation of its tokens' texts, so whatever the model samples in the right order
is valid JSON:

    {"item_1":{   "category":"seating",  ...  "surface":"plain"   },"item_2":{   ...
    },"differences":   "kind, colour",   "same_model":"no"}   </s>

One token carries one attribute with its value, one token the summary of the differences, one token the
verdict. The generic style is `{"differences":`, the summary, the verdict. Keys and order are the paper's
(section 3) without `confidence` and `reasoning`, which a model of this size could only invent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

NO_DIFFERENCE = "none"
NAMED_DIFFERENCES = 2
"""The summary names at most this many attributes, the first that differ in the scheme's order."""


@dataclass(frozen=True)
class AnswerScheme:
    """Which attributes with which values an answer describes, and the names of its keys."""

    item: str
    """The descriptions are called ``{item}_1`` and ``{item}_2``."""
    verdict_key: str
    attributes: dict[str, tuple[str, ...]]
    """Attribute to its possible values; both in the order of their tokens."""

    @property
    def first_opening(self) -> str:
        """Token that starts an answer and the description of image a."""
        return "{" + _text(f"{self.item}_1") + ":{"

    @property
    def second_opening(self) -> str:
        """Token that starts the description of image b."""
        return "}," + _text(f"{self.item}_2") + ":{"

    @property
    def differences_opening(self) -> str:
        """Token that ends the descriptions."""
        return '},"differences":'

    @property
    def generic_opening(self) -> str:
        """Token that starts an answer of the generic style."""
        return '{"differences":'

    @property
    def verdicts(self) -> tuple[str, str]:
        """The tokens for yes (same) and no."""
        return f'{_text(self.verdict_key)}:"yes"}}', f'{_text(self.verdict_key)}:"no"}}'

    def value(self, attribute: str, value: str) -> str:
        """The token that says that an attribute has a value."""
        comma = "" if attribute == list(self.attributes)[-1] else ","
        return f"{_text(attribute)}:{_text(value)}{comma}"

    def differences(self, a: Mapping[str, str], b: Mapping[str, str]) -> str:
        """The token that sums up in which attributes two descriptions differ."""
        differing = [attribute for attribute in self.attributes if a[attribute] != b[attribute]]
        return _summary(differing[:NAMED_DIFFERENCES])

    def answer(self, a: Mapping[str, str], b: Mapping[str, str], same: bool) -> list[str]:
        """The true answer of the attribute style as tokens, without the end token."""
        return [
            self.first_opening,
            *(self.value(attribute, a[attribute]) for attribute in self.attributes),
            self.second_opening,
            *(self.value(attribute, b[attribute]) for attribute in self.attributes),
            self.differences_opening,
            self.differences(a, b),
            self.verdicts[0 if same else 1],
        ]

    def generic_answer(self, a: Mapping[str, str], b: Mapping[str, str], same: bool) -> list[str]:
        """The true answer of the generic style as tokens, without the end token."""
        return [self.generic_opening, self.differences(a, b), self.verdicts[0 if same else 1]]

    @property
    def answer_length(self) -> int:
        """Tokens of a whole answer of the attribute style, with its end token."""
        return 2 * len(self.attributes) + 6

    @property
    def generic_length(self) -> int:
        """The same of the generic style."""
        return 4

    def values(self) -> list[str]:
        """Every token that describes a picture."""
        return [self.value(name, value) for name, values in self.attributes.items() for value in values]

    def summaries(self) -> list[str]:
        """Every token that sums up differences."""
        named = [
            list(names)
            for count in range(1, NAMED_DIFFERENCES + 1)
            for names in combinations(self.attributes, count)
        ]
        return list(dict.fromkeys([_summary([]), *map(_summary, named)]))

    def tokens(self) -> list[str]:
        """Every token of answers, in the order of their ids."""
        return [
            self.first_opening,
            self.second_opening,
            self.differences_opening,
            self.generic_opening,
            *self.verdicts,
            *self.summaries(),
            *self.values(),
        ]


def _summary(names: Sequence[str]) -> str:
    return _text(", ".join(names) if names else NO_DIFFERENCE) + ","


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
