"""`saga cir write-triplets`: what it prints, what it refuses, how an interruption goes on."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Generator, Iterable
from pathlib import Path

import pytest

from saga_ray.cli.command_line import main
from saga_ray.composed.writing.job import Answers, Batch
from saga_ray.prompts.edits import CAPTION, INSTRUCTION

WRITE = ["cir", "write-triplets"]


@pytest.fixture
def captions(tmp_path: Path) -> Path:
    file = tmp_path / "my captions.jsonl"
    file.write_text(
        "".join(json.dumps({"image": f"{n}.jpg", "caption": f"thing {n}"}) + "\n" for n in range(65))
    )
    return file


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """A scripted model in place of vLLM; lists what it was made of. `slow` ends in an interruption."""
    made: list[tuple[object, ...]] = []

    def on_vllm(
        llm: str, tokenizer: str | None, *, workers: int, say: Callable[[str], None]
    ) -> Callable[[Iterable[Batch]], Generator[Answers]]:
        made.append((llm, tokenizer, workers))

        def ask(batches: Iterable[Batch]) -> Generator[Answers]:
            good = json.dumps({INSTRUCTION: "paint it blue", CAPTION: "a blue thing"})
            print("a line of a log")
            for number, questions in batches:
                yield number, [good if place % 2 == 0 else "no" for place in range(len(questions))]
                if len(made) == 1 and llm == "slow":
                    raise KeyboardInterrupt

        return ask

    monkeypatch.setattr("saga_ray.composed.writing.pool.on_vllm", on_vllm)
    return made


def test_the_counts_are_printed(
    captions: Path, model: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "triplets.jsonl"
    words = [str(captions), "--llm", "m", "--tokenizer", "t", "--workers", "3", "--output", str(output)]
    assert main([*WRITE, *words, "--per-caption", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "captions     65, 130 edits asked for",
        "written      65 (50.0%)",
        "dropped      65 (no JSON answer: 65)",
        f"triplets     {output}",
    ]
    assert "a line of a log" in captured.err and "batch 2 of 2: 1 of 2 answers are of use" in captured.err
    assert model == [("m", "t", 3)] and len(output.read_text().splitlines()) == 65


def test_an_interruption_says_how_it_goes_on(
    captions: Path, model: list[tuple[object, ...]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "triplets.jsonl"
    words = [*WRITE, str(captions), "--llm", "slow", "--output", str(output), "--seed", "5"]
    assert main(words) == 130
    command = capsys.readouterr().err.splitlines()[-1].removeprefix("saga: interrupted; to go on: saga ")
    assert shlex.split(command) == [*words, "--resume"]
    assert main(words) == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert main(shlex.split(command)) == 0
    assert "captions     65, 65 edits asked for\nwritten      33" in capsys.readouterr().out


def test_rules_need_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_text("image,label,colour,size\na.jpg,a,red,s\nb.jpg,b,blue,s\nc.jpg,c,blue,m\nd.jpg,d,,m\n")
    output = tmp_path / "triplets.jsonl"
    assert main([*WRITE, str(table), "--rules", "colour, size", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "written      3 (colour: 2, size: 1)"
    whys = "a picture that might fit lacks a value: 1, something of the reference is not known: 1"
    assert lines[1] == f"left out     2 ({whys})"
    assert lines[2:] == [f"triplets     {output}"]
    assert main([*WRITE, str(table), "--rules", "colour", "--output", str(output)]) == 2
    assert "triplets.jsonl exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words, said",
    [
        (["c.jsonl", "--output", "o.jsonl"], "one of the arguments --llm --rules is required"),
        (["c.jsonl", "--llm", "m", "--rules", "a", "--output", "o.jsonl"], "not allowed with argument"),
        (["c.jsonl", "--llm", "m"], "required: --output"),
        (["c.jsonl", "--llm", "m", "--output", "o.json"], "--output o.json must end in .jsonl"),
        (["c.jsonl", "--llm", "m", "--output", "o.jsonl"], "c.jsonl: cannot be read as text"),
        (["c.jsonl", "--llm", "m", "--same", "a", "--output", "o.jsonl"], "--same goes with --rules; leave"),
        (
            ["c.csv", "--rules", "a", "--per-caption", "2", "--output", "o.jsonl"],
            "--per-caption goes with --llm",
        ),
        (["c.csv", "--rules", "a", "--resume", "--output", "o.jsonl"], "--resume goes with --llm"),
        (["c.csv", "--llm", "m", "--workers", "0", "--output", "o.jsonl"], "--workers 0 is no number from 1"),
        (["c.csv", "--rules", "a", "--output", "o.jsonl"], "c.csv: there is no such table"),
        (["write-triplet"], "did you mean 'write-triplets'?"),
    ],
)
def test_mistakes_are_one_sentence(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = main([*(WRITE if len(words) > 1 else WRITE[:1]), *words])
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == "" and list(tmp_path.iterdir()) == []
    assert said in captured.err and captured.err.count("\n") == 1
