"""`saga cir evaluate`, with an embedder that was not trained, on a handful of pictures."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

from saga_ray.cli.command_line import main
from saga_ray.cli.commands import cir_evaluate
from saga_ray.composed import benchmarks
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.result import CirResult
from saga_ray.models import supervisors
from tests.composed.releases import circo
from tests.composed.small import triplets


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder, with its model."""
    folder = tmp_path_factory.mktemp("runs") / "mine"
    Embedder(supervisors.load("furniture-pocket")).save(folder / "arms" / "instruct" / "model")
    return folder


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_it_prints_a_table_and_writes_result_and_report(
    run: Path, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = triplets(tmp_path / "data")
    command = ["cir", "evaluate", str(run), "--benchmark", "triplets", "--root", str(root)]
    assert main([*command, "--output", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "triplets all, protocol standard: 5 queries over 9 pictures, embeddings of 256 numbers"
    )
    assert lines[2].split() == ["per", "cent", "R@1", "R@5", "R@10", "R@50"]
    result = CirResult.model_validate_json((tmp_path / "out/result.json").read_text())
    rows = {line[:12].strip(): line[12:].split() for line in lines[3:7]}
    assert list(rows) == ["composed", "image only", "text only", "image + text"]
    for cells, measured in zip(rows.values(), result.measures.values(), strict=True):
        assert cells == [f"{100 * measured[f'recall@{k}']:.1f}" for k in (1, 5, 10, 50)]
    assert lines[-1] == f"report       {tmp_path / 'out/report/index.html'}"
    assert (tmp_path / "out/report/index.html").exists()
    assert result.computed == 9 and list((home / "cache/composed").glob("*/*.safetensors"))

    # again, by its model's folder: embedded before, and the output under the home
    assert main([*command[:2], str(run / "arms" / "instruct" / "model"), *command[3:], "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert again["computed"] == 0 and again["measures"] == result.model_dump()["measures"]
    assert [file.parent.name[:13] for file in home.glob("runs/*/result.json")] == ["cir-triplets-"]

    assert main([*command, "--size", "16", "--output", str(tmp_path / "short"), "--json"]) == 0
    short = json.loads(capsys.readouterr().out)
    assert short["embedder"]["size"] == 16 and short["computed"] == 9


def test_hidden_targets_give_files_and_the_differences_are_told(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = circo(tmp_path / "data")
    command = ["cir", "evaluate", str(run), "--benchmark", "circo", "--root", str(root), "--split", "test"]
    assert main([*command, "--output", str(tmp_path / "out"), "--size", "8"]) == 0
    said = capsys.readouterr().out
    assert "its targets are hidden: send the files below" in said
    assert f"predictions  {tmp_path / 'out/predictions/composed/circo.test.json'}\n" in said
    assert said.count("note         ") == 2 and "123,403" in said


def test_help_lists_the_splits_and_protocols_of_every_benchmark() -> None:
    help_text = cir_evaluate.__doc__ or ""
    for name in benchmarks.names():
        module = importlib.import_module(f"{benchmarks.__name__}.{name}")
        [line] = re.findall(rf"^  {name} +(.+)$", help_text, re.MULTILINE)
        columns = re.split(r" {2,}", line)
        assert columns[:2] == [", ".join(module.SPLITS), ", ".join(module.PROTOCOLS)], name


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"--benchmark": "circa"}, "unknown benchmark 'circa' (did you mean 'circo'?)"),
        ({"--root": "nowhere"}, "there are no triplets"),
        ({"--benchmark": "circo"}, "circo"),
        ({"--split": "dev"}, "triplets has no split 'dev'"),
        ({"--protocol": "x"}, "triplets has no protocol 'x'"),
        ({"--size": "257"}, "cannot be cut to 257 numbers: this embedder's have 256"),
        ({"--workers": "0"}, "--workers 0 is not a number of actors"),
        ({"--output": "data"}, "is in use: it is not empty"),
        ({"MODEL": "nowhere"}, "there is no run 'nowhere'"),
        ({"MODEL": "data"}, "holds no embedder of composed retrieval"),
    ],
)
def test_mistakes_are_one_sentence(
    changes: dict[str, str],
    words: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    triplets(tmp_path / "data", count=4)
    (tmp_path / "data/triplets.jsonl").write_text(
        '{"reference": "0.png", "instruction": "x", "target": "1.png"}\n'
    )
    monkeypatch.chdir(tmp_path)
    options = {"MODEL": str(run), "--benchmark": "triplets", "--root": "data"} | changes
    model = options.pop("MODEL")
    code = main(["cir", "evaluate", model, *(word for pair in options.items() for word in pair)])
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert words in captured.err and captured.err.count("\n") == 1
    assert not list(tmp_path.glob("home/runs/*"))
