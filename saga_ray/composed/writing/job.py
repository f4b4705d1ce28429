"""Captions to triplets, written by a language model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from saga_ray.composed.captions import read_captions
from saga_ray.composed.writing.edits import BATCH, Counts, Question, questions, triplets
from saga_ray.composed.writing.parts import Parts
from saga_ray.errors import UserError
from saga_ray.prompts import edits

Batch = tuple[int, list[Question]]
Answers = tuple[int, list[str | None]]
Ask = Callable[[Iterable[Batch]], Generator[Answers]]
"""Puts numbered batches to a language model; yields the answers of each, in any order of batches. None stands
for a question that is too long for the model."""


@dataclass(frozen=True)
class Writing:
    """What to write. All of it must be the same when the writing is resumed."""

    captions: Path
    llm: str
    """A model's folder or name, or a GGUF file."""
    tokenizer: str | None = None
    """Its tokenizer's folder or name, where the model has none of its own."""
    per_caption: int = 1
    seed: int = 0


def write_triplets(
    writing: Writing,
    output: Path,
    ask: Ask,
    *,
    resume: bool = False,
    say: Callable[[str], None] | None = None,
) -> Counts:
    """Write the triplets of all captions to `output`, which appears when it is whole.

    Every finished batch is kept beside it at once; with `resume` only the others are asked about.

    Raises:
        UserError: for captions that cannot be read and for an output that is in the way, see `Parts`; and
        where no answer was of use: then nothing is written, and the parts are taken away.
    """
    captions = read_captions(writing.captions)
    batches = [captions[start : start + BATCH] for start in range(0, len(captions), BATCH)]
    parts = Parts(output, _plan(writing), resume=resume)
    left = [number for number in range(len(batches)) if not parts.is_done(number)]
    if say and resume:
        say(f"going on: {len(batches) - len(left):,} of {len(batches):,} batches were done")
    if left:
        asked = ((number, questions(batches[number], writing.per_caption, writing.seed)) for number in left)
        with closing(ask(asked)) as answered:  # ends the workers, whatever happens here
            for done, (number, answers) in enumerate(answered, len(batches) - len(left) + 1):
                lines, counts = triplets(batches[number], answers, writing.per_caption)
                parts.write(number, lines, counts)
                if say:
                    say(
                        f"batch {done:,} of {len(batches):,}: "
                        f"{counts.written:,} of {counts.asked:,} answers are of use"
                    )
    total = parts.finish(len(batches))
    if not total.written:
        raise UserError(
            f"none of {writing.llm}'s {total.asked:,} answers is of use ({describe(total)}); take a larger "
            "model that follows instructions"
        )
    return total


def describe(counts: Counts) -> str:
    """Dropped answers by reason, as a list in words."""
    return ", ".join(f"{reason}: {number:,}" for reason, number in counts.dropped.most_common())


def _plan(writing: Writing) -> dict[str, object]:
    """What resumed writing must have in common with what is there: a changed prompt too would mix answers."""
    prompt = json.dumps([edits.messages("", aspect) for aspect in edits.ASPECTS])
    return {
        "captions": hashlib.sha256(writing.captions.read_bytes()).hexdigest(),
        "llm": writing.llm,
        "tokenizer": writing.tokenizer,
        "per_caption": writing.per_caption,
        "seed": writing.seed,
        "batch": BATCH,
        "prompt": hashlib.sha256(prompt.encode()).hexdigest(),
    }
