"""Triplets from captions with a scripted model: what is written and counted, and going on after a kill."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from saga_ray.composed.benchmarks.triplets import parse
from saga_ray.composed.captions import Caption
from saga_ray.composed.writing.edits import BATCH, TOO_LONG, Counts, questions, triplets
from saga_ray.composed.writing.job import Answers, Batch, Writing, write_triplets
from saga_ray.config.names import SOURCE_TREE
from saga_ray.errors import UserError
from saga_ray.prompts.edits import CAPTION, INSTRUCTION

CAPTIONS = 2 * BATCH + 3


def scripted(question_seed: int, original: str) -> str | None:
    """An answer by the seed alone, as a model's: some are of no use."""
    kind = question_seed % 7
    if kind == 0:
        return "I cannot do that."
    if kind == 1:
        return json.dumps({INSTRUCTION: "make it so", CAPTION: original})
    if kind == 2:
        return None
    return json.dumps(
        {INSTRUCTION: f"add number {question_seed % 5}", CAPTION: f"{question_seed % 5} things"}
    )


class Model:
    """Answers batches the last one first, and fails when told to."""

    def __init__(self, answer: Callable[[int, str], str | None] = scripted, dies_after: int | None = None):
        self.answer, self.dies_after = answer, dies_after
        self.asked: list[int] = []
        self.closed = False

    def __call__(self, batches: Iterable[Batch]) -> Generator[Answers]:
        try:
            for done, (number, asked) in enumerate(reversed(list(batches))):
                if done == self.dies_after:
                    raise KeyboardInterrupt
                self.asked.append(number)
                originals = [question.messages[-1]["content"].rpartition(": ")[2] for question in asked]
                yield (
                    number,
                    [self.answer(q.seed, text) for q, text in zip(asked, originals, strict=True)],
                )
        finally:
            self.closed = True


@pytest.fixture
def writing(tmp_path: Path) -> Writing:
    file = tmp_path / "captions.jsonl"
    file.write_text(
        "".join(json.dumps({"image": f"{n}.jpg", "caption": f"thing {n}"}) + "\n" for n in range(CAPTIONS))
    )
    return Writing(captions=file, llm="scripted", per_caption=2, seed=3)


def test_what_is_written_is_read_and_what_is_dropped_is_counted(writing: Writing, tmp_path: Path) -> None:
    output = tmp_path / "new" / "triplets.jsonl"
    counts = write_triplets(writing, output, Model())
    found = parse(output)
    assert len(found) == counts.written and counts.captions == CAPTIONS and counts.asked == 2 * CAPTIONS
    assert counts.asked == counts.written + counts.dropped.total()
    assert {"no JSON answer", "nothing changed", TOO_LONG, "repeated"} == set(counts.dropped)
    numbers = [int(triplet.reference.removesuffix(".jpg")) for triplet in found]
    assert numbers == sorted(numbers)
    for triplet, number in zip(found, numbers, strict=True):
        assert triplet.entry["reference_text"] == f"thing {number}"
        assert triplet.target_text.endswith("things") and triplet.targets == ()
    assert list(output.parent.iterdir()) == [output]


def test_a_killed_command_goes_on_where_it_stopped(writing: Writing, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "triplets.jsonl"
    counts = write_triplets(writing, whole, Model())
    killed = Model(dies_after=1)
    with pytest.raises(KeyboardInterrupt):
        write_triplets(writing, output, killed)
    assert killed.closed and not output.exists() and killed.asked == [2]
    with pytest.raises(UserError, match=r"was begun, its parts are in .*; go on with --resume"):
        write_triplets(writing, output, Model())
    said: list[str] = []
    going_on = Model()
    assert write_triplets(writing, output, going_on, resume=True, say=said.append) == counts
    assert said[0] == "going on: 1 of 3 batches were done" and said[-1].startswith("batch 3 of 3: ")
    assert going_on.asked == [1, 0] and output.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "triplets.jsonl.parts").exists()
    for resume in (False, True):
        with pytest.raises(UserError, match="triplets.jsonl exists"):
            write_triplets(writing, output, Model(), resume=resume)


KILLED = """
import os, sys
from pathlib import Path
from saga_ray.composed.writing.job import Writing, write_triplets
from tests.composed.test_writing import Model

def killed(batches):
    yield from ((number, answers) for number, answers in Model()(batches) if number or os._exit(9))

captions, output = map(Path, sys.argv[1:])
write_triplets(Writing(captions, "scripted", per_caption=2, seed=3), output, killed)
"""


def test_a_process_that_is_killed_loses_nothing_that_was_answered(writing: Writing, tmp_path: Path) -> None:
    whole, output = tmp_path / "whole.jsonl", tmp_path / "triplets.jsonl"
    write_triplets(writing, whole, Model())
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, str(writing.captions), str(output)],
        env={**os.environ, "PYTHONPATH": str(SOURCE_TREE)},
    )
    assert ended.returncode == 9 and not output.exists()
    going_on = Model()
    write_triplets(writing, output, going_on, resume=True)
    assert going_on.asked == [0] and output.read_bytes() == whole.read_bytes()


def test_a_batch_that_was_being_written_is_asked_for_again(
    writing: Writing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "triplets.jsonl"
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        model = Model()
        with pytest.raises(KeyboardInterrupt):
            write_triplets(writing, output, model)
    assert model.closed and not output.exists()
    # not even the plan was whole: the next command begins anew
    assert write_triplets(writing, output, Model()).captions == CAPTIONS


def test_other_answers_are_not_mixed_in(writing: Writing, tmp_path: Path) -> None:
    output = tmp_path / "triplets.jsonl"
    with pytest.raises(KeyboardInterrupt):
        write_triplets(writing, output, Model(dies_after=1))
    for change in ({"per_caption": 1}, {"seed": 4}, {"llm": "other"}):
        name, value = next(iter(change.items()))
        with pytest.raises(UserError, match=rf"with {name} = \w+ and this command says {value}; repeat"):
            write_triplets(replace(writing, **change), output, Model(), resume=True)
    with writing.captions.open("a") as file:
        file.write('{"image": "z.jpg", "caption": "more"}\n')
    with pytest.raises(UserError, match="was begun with captions = "):
        write_triplets(writing, output, Model(), resume=True)


def test_nothing_is_left_behind_by_what_fails_at_once(writing: Writing, tmp_path: Path) -> None:
    output = tmp_path / "triplets.jsonl"
    with pytest.raises(UserError, match="was not begun, there is no .*; leave --resume out"):
        write_triplets(writing, output, Model(), resume=True)
    with pytest.raises(KeyboardInterrupt):
        write_triplets(writing, output, Model(dies_after=0))
    with pytest.raises(
        UserError, match=r"none of scripted's 262 answers is of use \(no JSON answer: 262\); take"
    ):
        write_triplets(writing, output, Model(lambda *_: "no"))
    assert list(tmp_path.iterdir()) == [writing.captions]


def test_questions_depend_on_their_caption_alone() -> None:
    captions = [Caption(f"{n}.jpg", f"thing {n}") for n in range(5)]
    together = questions(captions, 3, seed=1)
    apart = [question for caption in captions for question in questions([caption], 3, seed=1)]
    assert together == apart and questions(captions, 3, seed=2) != together
    assert len({question.seed for question in together}) == 15
    for place in range(5):
        asked = [question.messages[-1]["content"] for question in together[3 * place : 3 * place + 3]]
        assert len(set(asked)) == 3  # each about another aspect


def test_counts_add_up() -> None:
    good = json.dumps({INSTRUCTION: "paint it", CAPTION: "a blue thing"})
    lines, counts = triplets([Caption("a", "a thing"), Caption("b", "b")], [good, good, "", None], 2)
    assert [json.loads(line)["reference"] for line in lines] == ["a"]
    assert counts == Counts(2, 4, 1, counts.dropped)
    assert counts.dropped == {"repeated": 1, "no JSON answer": 1, TOO_LONG: 1}
    total = Counts()
    total.add(counts)
    total.add(counts)
    assert (total.captions, total.asked, total.written, total.dropped["repeated"]) == (4, 8, 2, 2)
