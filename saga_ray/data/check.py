"""What is wrong with a data set, where, and how many times: `saga data check`.

Nothing here stops at the first problem, nor at broken pictures beyond `max_broken_share`; only a source that
cannot be read at all (no such file, no such column) raises UserError.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from saga_ray.config.settings import DataSettings
from saga_ray.data import sources
from saga_ray.data.duplicates import near_duplicates
from saga_ray.data.examine import Examined, examine
from saga_ray.data.rows import SPLITS, Rows
from saga_ray.data.splits import assign, indivisible

MISSING = "missing file"
UNREADABLE = "unreadable file"
ONE_CLASS = "no second class"
SINGLE = "class with one picture"
TWO_SPLITS = "class in two splits"
DUPLICATE = "near-duplicate pictures across splits"
KINDS = (MISSING, UNREADABLE, ONE_CLASS, SINGLE, TWO_SPLITS, DUPLICATE)

EXAMPLES = 10
"""Problems of one kind that the text lists; the JSON lists all."""

SIDES = ("training", "validation", "test")
SIDE = {"train": "training", "extra": "training", "validation": "validation", "test": "test"}
"""Train and extra may share pictures and classes: both are trained on, and neither is evaluated."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong."""

    kind: str
    where: str
    detail: str


@dataclass(frozen=True)
class CheckReport:
    """Everything that was found, in the order of KINDS, then of the data set."""

    name: str
    images: int
    """Pictures that the source lists, broken ones too."""
    classes: int
    split_images: dict[str, int]
    split_classes: dict[str, int]
    split_seed: int | None
    """Seed of the class-disjoint split; None where the data set has a split of its own, or too few classes
    for one."""
    problems: list[Problem]
    differs: tuple[str, ...]
    """How the data set differs from its official release: no problem, since it may be a part of it."""
    left_out: dict[str, int]
    """Files among the pictures that are not read, by their ending: no problem either."""

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not self.problems

    @property
    def counts(self) -> dict[str, int]:
        """Problems of each kind, 0 included."""
        found = Counter(problem.kind for problem in self.problems)
        return {kind: found[kind] for kind in KINDS}

    def to_json(self) -> str:
        """One JSON object with every problem."""
        return json.dumps(
            asdict(self) | {"clean": self.clean, "counts": self.counts}, indent=2, ensure_ascii=False
        )

    def to_text(self) -> str:
        """Sizes, then each kind of problem with its number and at most EXAMPLES examples."""
        parts = [
            f"{split} {count} pictures of {self.split_classes[split]} classes"
            for split, count in self.split_images.items()
        ]
        origin = "" if self.split_seed is None else f" (split by class, seed {self.split_seed})"
        lines = [
            f"{self.name}: {self.images} pictures of {self.classes} classes",
            f"  {'; '.join(parts)}{origin}",
            *(f"  differs: {each}" for each in self.differs),
        ]
        if self.left_out:
            endings = [f"{count} {ending or 'without one'}" for ending, count in self.left_out.items()]
            more = ", …" if len(endings) > EXAMPLES else ""
            lines.append(
                f"  left out by their ending: {sum(self.left_out.values())} files "
                f"({', '.join(endings[:EXAMPLES])}{more})"
            )
        for kind, count in self.counts.items():
            lines.append(f"{kind}: {count}")
            shown = [problem for problem in self.problems if problem.kind == kind][:EXAMPLES]
            lines += [f"  {problem.where}: {problem.detail}" for problem in shown]
            if count > EXAMPLES:
                lines.append(f"  … and {count - EXAMPLES} more")
        lines.append("clean" if self.clean else f"{len(self.problems)} problems")
        return "\n".join(lines)


def check(settings: DataSettings, seed: int) -> CheckReport:
    """Look at all that training on `settings.source` would use; `seed` splits what has no split."""
    return check_rows(sources.read(settings), settings, seed)


def check_rows(rows: Rows, settings: DataSettings, seed: int) -> CheckReport:
    """The same for rows at hand."""
    examined = examine(rows.images, looks=True, banner=rows.banner)
    why = indivisible(rows, settings)
    # what cannot be split is looked at as one part
    splits = ["train"] * len(rows.labels) if why else assign(rows, settings, seed)
    problems = [
        *_broken(rows, examined),
        *([Problem(ONE_CLASS, rows.name, why)] if why else []),
        *_single(rows, splits),
        *_two_splits(rows, splits),
        *_duplicates(rows, splits, examined),
    ]
    kinds = {kind: order for order, kind in enumerate(KINDS)}
    present = [split for split in SPLITS if split in splits]
    return CheckReport(
        name=rows.name,
        images=len(rows.images),
        classes=len(set(rows.labels)),
        split_images={split: splits.count(split) for split in present},
        split_classes={
            split: len({label for label, own in zip(rows.labels, splits, strict=True) if own == split})
            for split in present
        },
        split_seed=seed if rows.splits is None and not why else None,
        problems=sorted(problems, key=lambda problem: kinds[problem.kind]),
        differs=rows.differs,
        left_out=rows.left_out,
    )


def _broken(rows: Rows, examined: Sequence[Examined]) -> Iterator[Problem]:
    for where, result in zip(rows.where, examined, strict=True):
        if result.problem is not None:
            yield Problem(MISSING if result.missing else UNREADABLE, where, result.problem)


def _single(rows: Rows, splits: Sequence[str]) -> Iterator[Problem]:
    """Nothing of its class can be found for such a picture, and no pair of one class be made with it."""
    pictures: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, key in enumerate(zip(rows.labels, splits, strict=True)):
        pictures[key].append(row)
    for (label, split), own in pictures.items():
        if len(own) == 1:
            yield Problem(SINGLE, f"class {label}", f"its only picture in {split} is {rows.where[own[0]]}")


def _two_splits(rows: Rows, splits: Sequence[str]) -> Iterator[Problem]:
    pictures: dict[str, Counter[str]] = defaultdict(Counter)
    for label, split in zip(rows.labels, splits, strict=True):
        pictures[label][split] += 1
    for label, count in pictures.items():
        if len({SIDE[split] for split in count}) > 1:
            parts = ", ".join(f"{count[split]} pictures in {split}" for split in SPLITS if count[split])
            yield Problem(TWO_SPLITS, f"class {label}", parts)


def _duplicates(rows: Rows, splits: Sequence[str], examined: Sequence[Examined]) -> Iterator[Problem]:
    """One problem a picture: the first picture of an earlier side that it repeats, and how many more."""
    whole = [row for row, result in enumerate(examined) if result.look is not None]
    looks = [result.look for result in examined if result.look is not None]
    side = np.array([SIDES.index(SIDE[splits[row]]) for row in whole], dtype=np.int64)
    repeats: dict[int, list[int]] = defaultdict(list)
    for i, j in near_duplicates(looks, side):
        earlier, later = (i, j) if side[i] < side[j] else (j, i)
        repeats[whole[later]].append(whole[earlier])
    for row, others in sorted(repeats.items()):
        first = others[0]
        alike = "is the same file as" if examined[first].digest == examined[row].digest else "looks like"
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        yield Problem(
            DUPLICATE,
            f"{rows.where[row]} (class {rows.labels[row]}, {splits[row]})",
            f"{alike} {rows.where[first]} (class {rows.labels[first]}, {splits[first]}){more}",
        )
