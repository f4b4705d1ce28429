"""`saga reproduce` as users see it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from saga_ray.cli.command_line import main, parser
from saga_ray.cli.commands import reproduce as command
from saga_ray.reproduce import local
from saga_ray.reproduce.runs import runs_of
from saga_ray.reproduce.tables import read_paper
from tests.reproduce.synthetic import Scripted, finish


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder and a home without data, supervisors and runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SAGA_HOME", str(tmp_path / "home"))


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["reproduce", *arguments]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence of a mistake."""
    assert main(["reproduce", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("saga: ") and captured.err.count("\n") == 1
    return captured.err


def test_a_dry_run_lists_runs_needs_and_the_paper_s_numbers(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = shown(capsys, "saga", "--table", "1", "--gpus", "8", "--dry-run")
    heads = re.findall(r"^run (\d+) +(\S+), seed 1: (.+)$", said, re.MULTILINE)
    assert [number for number, *_ in heads] == [str(number) for number in range(1, 13)]
    assert ("1", "cub-qwen3vl-8b", "start, saga") in heads and ("2", "cub-qwen3vl-8b", "metric") in heads
    needs = re.findall(r"^ +(\d) x h200 \((.+?)\), (\d+) of 139 GiB, [\d.]+ (h|min)", said, re.MULTILINE)
    assert len(needs) == 12 and {gpus for gpus, *_ in needs} == {"1", "8"}
    assert "        --set metric.loss=proxy_anchor" in said and "        --set rollout.actors=7" in said
    assert re.search(r"^\| iNat-Aves \| SAGA +\| +\| +60.1 \| +\| +77.1 \| 10 to come", said, re.MULTILINE)
    assert "12 of 12 runs to do" in said
    missing = said.partition("missing here\n")[2].splitlines()
    assert len(missing) == 7 and str(tmp_path / "data/CUB_200_2011") in missing[0]
    assert all(len(each) <= 130 for each in said.partition("missing here")[0].splitlines())
    assert not (tmp_path / "home").exists()


def test_it_says_where_the_cost_model_knows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = ["--set", "supervisor.path=supervisors/mine"]
    said = shown(capsys, "saga", "--table", "ablation", *unknown, "--dry-run")
    assert "not counted: the supervisor" in said and "its sizes are known of none but" in said


def test_the_paper_s_numbers_stand_beside_its_own_model_alone(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "saga", "--table", "ablation", "--model", "internvl3.5-8b", "--dry-run")
    assert "these runs are of internvl3.5-8b: none is shown" in said and "87.9" not in said


def test_it_says_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "saga", "--table", "verdict", "--data", "cub", "--gpu", "l4", "--dry-run")
    assert re.search(r"not counted: .* does not fit", said)


def test_what_has_finished_is_in_a_dry_run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    paper = read_paper("saga")
    runs = runs_of(paper, paper.table("1"), data=["cub"], model=paper.model, seeds=[1], inputs=tmp_path)
    output = tmp_path / "home" / "reproduce" / "saga"
    finish(output / "runs" / runs[0].name, {"start": (75.0, 91.0), "saga": (88.0, 96.0)})
    said = shown(capsys, "saga", "--table", "1", "--data", "cub", "--dry-run")
    assert "2 of 3 runs to do" in said and "run 1   cub-qwen3vl-8b, seed 1: start, saga, finished" in said
    assert re.search(r"^\| CUB +\| SAGA +\| +88.0 \| +87.9 \| +96.0 \| +96.3 \| 1 ", said, re.MULTILINE)

    # Where all have, nothing of what they read needs to be there.
    for run in runs[1:]:
        finish(output / "runs" / run.name, {"metric": (80.0, 92.0)})
    said = shown(capsys, "saga", "--table", "1", "--data", "cub")
    assert "starts" not in said and (output / "table-1.md").is_file()


def test_without_a_table_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    said = shown(capsys, "saga")
    assert "--table 1 " in said and "--table embedding-size " in said


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["sagga", "--table", "1"], "there is no paper 'sagga'; did you mean 'saga'?"),
        (["saga", "--table", "2"], "--table 2: the tables of SAGA are 1, ablation"),
        (["saga", "--table", "1", "--data", "cup"], "--data cup: did you mean 'cub'?"),
        (["saga", "--table", "1", "--model", "qwen3"], "--model qwen3: "),
        (["saga", "--table", "1", "--at-once", "2"], "--at-once is for jobs of a cluster"),
        (["saga", "--table", "1", "--gpu", "tpu"], "--gpu tpu: `saga plan` knows a100-40"),
        (["saga", "--table", "1", "--set", "seed=2"], "--set seed=2: --seeds gives seed of each run"),
        (["saga", "--table", "1", "--set", "trian.steps=2"], "unknown setting 'trian.steps'"),
        (["saga", "--table", "1", "--data", "cub"], "2 inputs are missing: the release of cub in "),
    ],
)
def test_mistakes(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words in mistake(capsys, *arguments)


@pytest.fixture
def small(tmp_path: Path) -> str:
    """A table whose inputs ship."""
    file = tmp_path / "small.toml"
    file.write_text(SMALL)
    return str(file)


SMALL = """
title = "Small"
source = "nowhere"
preset = "{data}"
model = "pocket"
models = ["pocket"]
data = { furniture = "Furniture" }

[tables.1]
title = "two rows"
data = ["furniture"]
rows = ["tower", "metric"]

[rows.tower]
title = "tower"
arm = "start"
paper = { furniture = [83.9, 94.6] }

[rows.metric]
title = "metric, mean pooling"
arm = "metric"
set = ["encoder.pooling=mean", "distillation.weight=0"]
"""


def test_runs_end_in_a_table_and_a_failed_one_in_exit_code_1(
    small: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(name: str, arms: list[str]) -> dict[str, tuple[float, float]]:
        if arms == ["metric"]:
            raise ValueError("saga: there is no memory")
        return {"start": (83.0, 94.0)}

    monkeypatch.setattr(local, "Local", lambda: Scripted(fails))
    assert main(["reproduce", small, "--table", "1"]) == 1
    said = capsys.readouterr().out
    table = tmp_path / "home/reproduce/small/table-1.md"
    assert "run 2 failed: there is no memory" in said and f"table    {table}" in said
    assert re.search(r"\| Furniture \| tower +\| 83.0 \| +83.9 \|", table.read_text(encoding="utf-8"))

    monkeypatch.setattr(
        local, "Local", lambda: Scripted(lambda name, arms: {arm: (84.0, 95.0) for arm in arms})
    )
    assert main(["reproduce", small, "--table", "1"]) == 0
    capsys.readouterr()
    assert main(["reproduce", small, "--table", "1", "--set", "train.steps=100"]) == 0
    assert "1 of 2 starts" in capsys.readouterr().out  # other settings, another run
    assert main(["reproduce", small, "--table", "1"]) == 0
    assert "starts" not in capsys.readouterr().out
    assert "83.0" in table.read_text(encoding="utf-8") and "84.0" in table.read_text(encoding="utf-8")


def test_an_interruption_says_how_to_go_on(
    small: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(name: str, arms: list[str]) -> dict[str, tuple[float, float]]:
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "Local", lambda: Scripted(interrupted))
    assert main(["reproduce", small, "--table", "1", "--seeds", "1,2", "--set", "train.steps=3"]) == 130
    said = capsys.readouterr().err
    assert f"to go on: saga reproduce {small} --table 1 --seeds 1,2 --set train.steps=3" in said


def test_runs_that_cannot_be_shared_out_are_not_started(
    small: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "2 of 2 runs cannot be shared out" in mistake(capsys, small, "--table", "1", "--gpus", "2")


def test_a_job_server_that_does_not_answer_is_said(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = mistake(capsys, small, "--table", "1", "--address", "http://127.0.0.1:9")
    assert "no job server of Ray answers there" in said


def test_the_command_is_given_back_as_it_was_typed() -> None:
    typed = (
        "saga reproduce saga --table 1 --data cub,cars --model qwen3vl-8b --seeds 1,2 --set a=b --gpus 8 "
        "--gpu h100 --inputs in --output out --address http://head:8265 --at-once 2"
    )
    assert command._typed(parser().parse_args(typed.split()[1:])) == typed
