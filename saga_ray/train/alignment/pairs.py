"""Pairs of pictures for alignment and for measuring a supervisor: same, different, and different but hard
to tell apart."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from saga_ray.errors import UserError

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Pairs:
    """P pairs: rows of a table and whether both are of one class."""

    a: Rows
    b: Rows
    same: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.a)

    def __add__(self, other: Pairs) -> Pairs:
        return Pairs(*(np.concatenate([getattr(self, n), getattr(other, n)]) for n in ("a", "b", "same")))


class PairSampler:
    """Draws pairs from some rows of a table. Classes are equally likely, whatever their number of
    pictures."""

    def __init__(self, rows: Rows, labels: Rows, hard_values: Sequence[str], where: str) -> None:
        """`labels` and `hard_values` (of the attribute on which hard pairs agree) belong to `rows`, one each.

        Raises:
            UserError: no pair of one class, or of two classes, can be drawn.
        """
        by_class: dict[int, list[int]] = defaultdict(list)
        values: dict[int, list[str]] = defaultdict(list)
        for row, label, value in zip(rows, labels, hard_values, strict=True):
            by_class[int(label)].append(int(row))
            values[int(label)].append(value)
        self.rows_of = [np.array(own) for own in by_class.values()]
        self.class_of = {int(row): c for c, own in enumerate(self.rows_of) for row in own}
        self.repeated = [c for c, own in enumerate(self.rows_of) if len(own) > 1]
        if len(self.rows_of) < 2 or not self.repeated:
            raise UserError(
                f"A supervisor learns from pairs of pictures: {where} needs two classes at least, "
                "and one with two pictures."
            )
        together: dict[str, list[int]] = defaultdict(list)
        for c, own in enumerate(values.values()):
            together[Counter(own).most_common(1)[0][0]].append(c)
        self.rivals = {c: group for group in together.values() if len(group) > 1 for c in group}

    def same(self, count: int, rng: np.random.Generator) -> Pairs:
        """Two pictures of one class."""
        chosen = rng.choice(self.repeated, count)
        drawn = np.array([rng.choice(self.rows_of[c], 2, replace=False) for c in chosen]).reshape(count, 2)
        return Pairs(drawn[:, 0], drawn[:, 1], np.ones(count, dtype=bool))

    def different(self, count: int, rng: np.random.Generator) -> Pairs:
        """Pictures of any two classes."""
        return self._of_classes([rng.choice(len(self.rows_of), 2, replace=False) for _ in range(count)], rng)

    def hard(self, count: int, rng: np.random.Generator) -> Pairs:
        """Pictures of two classes that agree on the hard attribute; of any two where no classes do."""
        if not self.rivals:
            return self.different(count, rng)
        able = list(self.rivals)
        classes = []
        for c in rng.choice(able, count):
            others = [rival for rival in self.rivals[int(c)] if rival != c]
            classes.append(np.array([c, rng.choice(others)]))
        return self._of_classes(classes, rng)

    def _of_classes(self, classes: Sequence[Rows], rng: np.random.Generator) -> Pairs:
        drawn = np.array([[rng.choice(self.rows_of[int(c)]) for c in two] for two in classes]).reshape(-1, 2)
        return Pairs(drawn[:, 0], drawn[:, 1], np.zeros(len(drawn), dtype=bool))

    def opposites(self, pairs: Pairs, rng: np.random.Generator) -> Rows:
        """For each pair the picture that would turn its verdict round in the place of the second one: of
        another class than the first for a same pair, of the first one's class for a different pair."""
        chosen = []
        for row, same in zip(pairs.a, pairs.same, strict=True):
            c = self.class_of[int(row)]
            if same:
                other = int(rng.integers(len(self.rows_of) - 1))
                c = other + (other >= c)
            chosen.append(rng.choice(self.rows_of[c]))
        return np.array(chosen, dtype=np.int64)

    def balanced(self, count: int, rng: np.random.Generator, *, hard: bool) -> Pairs:
        """Half of one class, half of two; these hard or not."""
        different = self.hard if hard else self.different
        return self.same(count - count // 2, rng) + different(count // 2, rng)
