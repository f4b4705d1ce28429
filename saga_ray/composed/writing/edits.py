"""What is asked about captions, and the triplets that come of the answers. No Ray, no engine."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from saga_ray.composed.captions import Caption
from saga_ray.prompts import edits
from saga_ray.prompts.edits import Edit

BATCH = 64
"""Captions that are asked about, and kept, together."""

TOO_LONG, REPEATED = "the caption is too long", "repeated"
"""Why there is no answer; why an answer is dropped that the caption has already."""


@dataclass(frozen=True)
class Question:
    """One chat for the language model."""

    messages: list[dict[str, str]]
    seed: int
    longest: int
    """Tokens of its answer, at most."""


@dataclass
class Counts:
    """What became of the captions."""

    captions: int = 0
    asked: int = 0
    written: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Why (`saga_ray.prompts.edits.Reason`, `TOO_LONG`, `REPEATED`) -> answers."""

    def add(self, other: Counts) -> None:
        """Count another's as one's own."""
        self.captions += other.captions
        self.asked += other.asked
        self.written += other.written
        self.dropped.update(other.dropped)


def questions(captions: Sequence[Caption], per_caption: int, seed: int) -> list[Question]:
    """`per_caption` questions a caption, each about another aspect; they depend on nothing but the caption
    and `seed`, so that neither batches nor workers nor a resume change them."""
    asked = []
    for caption in captions:
        first = _hash(seed, caption, "aspect")
        for place in range(per_caption):
            aspect = edits.ASPECTS[(first + place) % len(edits.ASPECTS)]
            asked.append(
                Question(
                    edits.messages(caption.text, aspect),
                    _hash(seed, caption, place),
                    longest=edits.longest_answer(caption.text),
                )
            )
    return asked


def triplets(
    captions: Sequence[Caption], answers: Sequence[str | None], per_caption: int
) -> tuple[list[str], Counts]:
    """The lines for a file of triplets, and what became of all answers; None stands for a caption that the
    model could not take."""
    assert len(answers) == len(captions) * per_caption, "one answer a question"
    lines: list[str] = []
    counts = Counts(captions=len(captions), asked=len(answers))
    for place, caption in enumerate(captions):
        known: set[Edit] = set()
        for answer in answers[place * per_caption : (place + 1) * per_caption]:
            edit = edits.parse(answer, caption.text) if answer is not None else TOO_LONG
            if isinstance(edit, str) or edit in known:
                counts.dropped[edit if isinstance(edit, str) else REPEATED] += 1
                continue
            known.add(edit)
            lines.append(_line(caption, edit))
    counts.written = len(lines)
    return lines, counts


def _line(caption: Caption, edit: Edit) -> str:
    return json.dumps(
        {
            "reference": caption.image,
            "instruction": edit.instruction,
            "target_text": edit.caption,
            "reference_text": caption.text,
        },
        ensure_ascii=False,
    )


def _hash(seed: int, caption: Caption, what: int | str) -> int:
    """In [0, 2^63)."""
    key = repr((seed, caption.image, caption.text, what)).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
