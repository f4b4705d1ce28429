"""The command line: help everywhere, mistakes in one sentence with exit code 2, the dry run."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest

from saga_ray.cli.command_line import main, parser
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.settings import Settings
from saga_ray.retrieval.embed import How

COMMANDS = [
    "train",
    "evaluate",
    "data check",
    "sweep",
    "supervisor train",
    "supervisor assemble",
    "doctor",
    "plan",
    "reproduce",
    "settings",
    "index build",
    "index add",
    "index delete",
    "cir train",
    "cir evaluate",
    "cir write-triplets",
    "export",
    "serve",
]


def leaves(top: argparse.ArgumentParser, name: str = "") -> Iterator[str]:
    groups = [action for action in top._actions if isinstance(action, argparse._SubParsersAction)]
    if not groups:
        yield name.strip()
    for action in groups:
        for command, below in action.choices.items():
            yield from leaves(below, f"{name} {command}")


def saga(arguments: Sequence[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command as users start it."""
    code = "import sys; from saga_ray.cli import main; sys.exit(main())"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE_TREE)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What stderr says about a mistake; checks that it is one sentence and that stdout stays empty."""
    try:
        code = main(arguments)
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    assert code == 2 and captured.out == ""
    assert captured.err.startswith("saga") and captured.err.count("\n") == 1
    return captured.err


def test_the_commands_are_these() -> None:
    assert list(leaves(parser())) == COMMANDS


@pytest.mark.parametrize("command", ["", "data", "supervisor", "index", "cir", *COMMANDS])
def test_help_everywhere(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    assert "usage: saga " + command in capsys.readouterr().out


def test_help_answers_at_once(tmp_path: Path) -> None:
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        assert saga(["--help"], tmp_path).returncode == 0
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "required: COMMAND"),
        (["trian"], "did you mean 'train'?"),
        (["data", "chek"], "did you mean 'check'?"),
        (["train"], "required: PRESET_OR_TOML"),
        (["train", "furniture", "--outptu", "x"], "unrecognized arguments: --outptu"),
        (["train", "furnitur"], "did you mean 'furniture'?"),
        (["train", "furniture", "--set", "grpo.wieght=1"], "did you mean 'grpo.weight'?"),
        (["train", "furniture", "--dry-run", "--data", "nowhere"], "--data nowhere"),
        (["train", "furniture", "--resume", "nowhere"], "there is no run 'nowhere'"),
        (["evaluate", "nowhere"], "there is no run 'nowhere'"),
        (["settings", "grop"], "unknown setting 'grop'"),
        (["serve"], "required: MODEL"),
        (["serve", "nowhere"], "there is no run 'nowhere'"),
        (["serve", "x", "--set", "wait=1"], "unknown setting 'wait'"),
        (["serve", "models:/nothing", "--set", "tracking_uri=sqlite://"], "models:/NAME@ALIAS"),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in mistake(capsys, *arguments)


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    ended = saga(["train", "furnitur", "--debug"], tmp_path)
    assert "Traceback" in ended.stderr and "UserError" in ended.stderr
    assert "Traceback" not in saga(["train", "furnitur"], tmp_path).stderr


def test_dry_run_prints_settings_that_can_be_run_and_makes_nothing(tmp_path: Path) -> None:
    arguments = ["train", "furniture", "--dry-run", "--set", "rollout.group_size=4", "--output", "out"]
    ended = saga(arguments, tmp_path)
    assert ended.returncode == 0, ended.stderr
    toml, _, equation = ended.stdout.partition("micro-batch ")
    assert Settings.model_validate(tomllib.loads(toml)).rollout.group_size == 4
    assert "16 pairs x 4 completions = 64 sequences" in equation
    assert list(tmp_path.iterdir()) == []


def test_settings_lists_a_section(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "grpo"]) == 0
    out = capsys.readouterr().out
    assert "grpo.weight = 1.0" in out and "[grpo]" in out and "rollout." not in out.replace("rollouts", "")
    assert main(["settings", "alignment"]) == 0
    assert "steps = " in capsys.readouterr().out
    assert main(["settings", "serve"]) == 0
    assert "batch_pictures = 32" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_mistake(tmp_path: Path) -> None:
    code = "import sys; from saga_ray.cli import main; sys.exit(main(['settings']))"
    command = f'{sys.executable} -c "{code}" | head -n 1; exit ${{PIPESTATUS[0]}}'
    ended = subprocess.run(["bash", "-c", command], cwd=SOURCE_TREE, capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "name = run\n", "")


def test_a_job_takes_the_same_arguments(tmp_path: Path) -> None:
    command = [sys.executable, str(SOURCE_TREE / "jobs/train.py"), "furniture", "--dry-run"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert ended.returncode == 0 and "micro-batch" in ended.stdout, ended.stderr
    ended = subprocess.run([*command, "--set", "a=1"], capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2 and ended.stderr.startswith("saga: unknown setting 'a'")


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """A run's folder as it lies there after an interruption."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run/settings.json").write_text(json.dumps(Settings(name="furniture").model_dump()))
    return tmp_path / "run"


def test_a_run_is_resumed_with_its_own_settings_only(
    begun: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    preset = tmp_path / "same.toml"
    preset.write_text('name = "furniture"\n')
    changed = mistake(
        capsys,
        "train",
        str(preset),
        "--resume",
        str(begun),
        "--set",
        "train.steps=3",
        "--set",
        "ray.local_cpus=4",
    )
    assert "began with train.steps = 100 and this command says 3" in changed
    elsewhere = mistake(capsys, "train", str(preset), "--resume", str(begun), "--output", str(tmp_path))
    assert "is not the run to resume" in elsewhere


@pytest.mark.parametrize(
    "searcher, last", [("random", "trial 3: {"), ("optuna", "trials: their values are chosen")]
)
def test_a_sweeps_dry_run_prints_the_values_that_are_known(
    searcher: str, last: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["sweep", "loss_weights", "--set", f"searcher={searcher}", "--set", "trials=3", "--dry-run"]
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(last)


@pytest.mark.parametrize("begun_already", [True, False])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_it_goes_on(
    sent: signal.Signals,
    begun_already: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(settings: Settings, output: Path, *, resume: bool) -> None:
        if begun_already:
            output.mkdir()
            (output / "settings.json").write_text(json.dumps(settings.model_dump()))
        os.kill(os.getpid(), sent)
        time.sleep(10)

    monkeypatch.setattr("saga_ray.train.run.run", interrupted)
    output, change = tmp_path / "my run", "arms=[start, metric]"
    assert main(["train", "furniture", "--set", change, "--output", str(output)]) == 130
    said = capsys.readouterr().err.strip()
    if not begun_already:
        assert said == "saga: interrupted"
        return
    command = said.removeprefix("saga: interrupted; to go on: saga ")
    assert shlex.split(command) == ["train", "furniture", "--set", change, "--resume", str(output)]


def test_evaluate_prints_the_table_or_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = {"recall@1": 0.5, "recall@4": 0.75, "map@r": 0.25, "r_precision": 0.3, "nmi": 1.0}
    result = {
        "test": {"start": measures, "saga": measures},
        "data": {"source": "mine", "test_images": 1200, "test_classes": 3},
    }

    def evaluate_path(
        path: Path, data: str | None, root: str | None, embedding: Callable[..., AbstractContextManager[How]]
    ) -> dict[str, object]:
        with embedding(Settings(), 1200) as how:
            print(f"a line of a log about {path.name} and {data} in {root}, here: {how.local}")
        return result

    monkeypatch.setitem(
        sys.modules, "saga_ray.retrieval.evaluate", SimpleNamespace(evaluate_path=evaluate_path)
    )
    assert main(["evaluate", str(tmp_path), "--data", "pictures", "--root", "here", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == result
    assert f"a log about {tmp_path.name} and pictures in here, here: True" in captured.err
    assert main(["evaluate", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1,200 pictures of 3 unseen classes" in lines[0]
    assert lines[3].split() == ["saga", "50.0", "75.0", "25.0", "30.0", "100.0"]
    assert main(["evaluate", str(tmp_path), "--data", "mine"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "per cent over 1,200 pictures of 3 classes of mine;"
    assert lines[1] == "whether the encoder was trained on them is not known"
    recalls = {f"recall@{k}": k / 100 for k in (1, 10, 20, 30, 40, 50)}
    result["test"] = {"start": {**recalls, "map@r": 0.25, "r_precision": 0.3, "nmi": 1.0}}
    result["data"] = {"source": "inshop", "test_images": 1200, "gallery_images": 200, "test_classes": 3}
    assert main(["evaluate", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1,000 queries in a gallery of 200 pictures of 3 unseen classes" in lines[0]
    assert lines[1].split() == ["R@1", "R@10", "R@20", "R@30", "R@40", "R@50", "MAP@R"]
    assert lines[2].split() == ["start", "1.0", "10.0", "20.0", "30.0", "40.0", "50.0", "25.0"]


def test_evaluate_takes_the_runs_of_saga_train_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_text(ComposedSettings().model_dump_json())
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "scored by `saga cir evaluate`" in capsys.readouterr().err
    (tmp_path / "settings.json").write_text("{")
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "settings.json: cannot be read as JSON" in capsys.readouterr().err


def test_data_check_says_by_its_exit_code_whether_data_is_clean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label in ("chair", "table"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "broken.jpg").write_bytes(b"no picture")
    assert main(["data", "check", str(tmp_path)]) == 2
    assert "unreadable file: 2" in capsys.readouterr().out
    assert main(["data", "check", str(tmp_path), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["counts"]["unreadable file"] == 2
    assert "neither a data set" in mistake(capsys, "data", "check", str(tmp_path / "nowhere"))


def test_a_supervisors_training_refuses_a_folder_in_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "supervisor",
        "train",
        "--data",
        "furniture",
        "--attributes",
        "kind",
        "--output",
        str(tmp_path),
    ]
    assert f"--output {tmp_path} exists" in mistake(capsys, *arguments)
    assert "did you mean 'steps'?" in mistake(capsys, *arguments, "--set", "stepz=1")
