"""A table is filled in as runs finish: means over seeds, runs that fail, go on, are there already."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_ray.errors import UserError
from saga_ray.reproduce.found import Progress, look
from saga_ray.reproduce.inputs import missing, require
from saga_ray.reproduce.local import Local
from saga_ray.reproduce.runs import Run, runs_of
from saga_ray.reproduce.submit import Ended, Runner, reproduce, sentence
from saga_ray.reproduce.table_text import Shown, table_lines
from saga_ray.reproduce.tables import read_paper
from tests.reproduce.synthetic import Measured, Scripted, finish, folder_of

SAGA = read_paper("saga")
# By row, then seed: R@1 and R@4 in per cent.
MEASURED: dict[str, dict[str, tuple[float, float]]] = {
    "tower_saga": {"start": (75.0, 91.0), "saga": (88.0, 96.0)},
    "proxy-anchor": {"metric": (80.0, 92.5)},
    "potential-field": {"metric": (82.0, 93.0)},
}


def runs_on_cub(table: str = "1", seeds: tuple[int, ...] = (1,)) -> tuple[Shown, list[Run]]:
    known = SAGA.table(table)
    runs = runs_of(SAGA, known, data=["cub"], model="qwen3vl-8b", seeds=seeds, inputs=Path("/inputs"))
    return Shown(SAGA, known, ["cub"], "qwen3vl-8b", seeds), runs


def by_row(name: str, arms: list[str]) -> Measured:
    """What is measured, a point more with each seed."""
    found = next(found for row, found in MEASURED.items() if f"-{row}-s" in name)
    seed = int(name.split("-s")[-1].split("-")[0])
    return {arm: (found[arm][0] + seed - 1, found[arm][1] + seed - 1) for arm in arms}


def go(
    shown: Shown, runs: list[Run], runner: Runner, output: Path, *, at_once: int = 1
) -> tuple[list[Progress], str, list[str]]:
    """What became of the runs, the table's file, what was said."""
    said: list[str] = []
    file = output / "table-1.md"
    progress = reproduce(
        shown, runs, runner, output, file, command="saga it", at_once=at_once, say=said.append, poll_s=0.0
    )
    assert not list(output.rglob("*.part"))
    return progress, file.read_text(encoding="utf-8"), said


def line(text: str, row: str) -> list[str]:
    """Cells of a row of the table."""
    (found,) = (each for each in text.splitlines() if each.startswith("|") and f" {row} " in each)
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_the_table_has_ours_beside_the_paper_s(tmp_path: Path) -> None:
    runner = Scripted(by_row)
    progress, text, said = go(*runs_on_cub(), runner, tmp_path)
    assert [each.state for each in progress] == ["finished"] * 3
    assert line(text, "pre-trained tower") == [
        "CUB",
        "pre-trained tower",
        "75.0",
        "75.6",
        "91.0",
        "91.8",
        "1",
    ]
    assert line(text, "SAGA")[2:] == ["88.0", "87.9", "96.0", "96.3", "1"]
    assert line(text, "Proxy Anchor, mean pooling")[2:] == ["80.0", "79.5", "92.5", "92.0", "2"]
    assert text.startswith("# SAGA (arXiv 2606.15134): the main results\n") and "`saga it`" in text
    assert len({len(each) for each in text.splitlines() if each.startswith("|")}) == 1  # aligned
    assert said[0].startswith("run 1 of 3 starts: cub-qwen3vl-8b-tower_saga-s1-")
    assert "run 3 of 3 finished" in said
    for arguments, name in zip(runner.started, runner.names, strict=True):
        assert folder_of(arguments) == tmp_path / "runs" / name


def test_over_seeds_it_has_mean_and_standard_deviation(tmp_path: Path) -> None:
    _, text, _ = go(*runs_on_cub(seeds=(1, 2, 3)), Scripted(by_row), tmp_path)
    assert line(text, "SAGA")[2:] == ["89.0 ± 1.0", "87.9", "97.0 ± 1.0", "96.3", "1, 4, 7"]
    assert "the mean over the seeds 1, 2, 3, ± their standard deviation" in text


def test_what_the_paper_does_not_give_stays_empty(tmp_path: Path) -> None:
    shown, runs = runs_on_cub("verdict")
    _, text, _ = go(shown, runs, Scripted(lambda name, arms: {arm: (85.0, 95.0) for arm in arms}), tmp_path)
    assert line(text, "SAGA, cross entropy on the verdict in place of GRPO")[2:] == [
        "85.0",
        "",
        "95.0",
        "",
        "1",
    ]
    other = Shown(SAGA, shown.table, ["cub"], "internvl3.5-8b", (1,))
    assert "87.9" not in "\n".join(table_lines(other, look(tmp_path, runs)))


def test_a_run_that_fails_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    def second_fails(name: str, arms: list[str]) -> Measured:
        if "proxy-anchor" in name:
            raise ValueError("loading pictures\nsaga: the disk is full\nShutting down\n")
        return by_row(name, arms)

    progress, text, said = go(*runs_on_cub(), Scripted(second_fails), tmp_path)
    assert [each.state for each in progress] == ["finished", "failed", "finished"]
    assert progress[1].error.startswith("the disk is full (log: ")
    assert line(text, "Proxy Anchor, mean pooling")[2:] == ["", "79.5", "", "92.0", "2 failed"]
    assert "- run 2 failed: the disk is full" in text
    assert any(each.startswith("run 2 of 3 failed: the disk is full") for each in said)

    # Again: the finished ones are not repeated, the failed one goes on from where it was.
    runner = Scripted(by_row)
    progress, text, _ = go(*runs_on_cub(), runner, tmp_path)
    assert len(runner.started) == 1 and "--resume" in runner.started[0]
    assert folder_of(runner.started[0]) == progress[1].folder
    assert line(text, "Proxy Anchor, mean pooling")[2] == "80.0" and "failed" not in text


def test_a_run_that_says_it_is_well_and_leaves_nothing_here_has_failed(tmp_path: Path) -> None:
    (first, *_), text, _ = go(*runs_on_cub(), Scripted(lambda name, arms: {}), tmp_path)
    assert first.state == "failed" and "--output must be a folder that this machine" in first.error


def test_a_run_that_cannot_be_started_does_not_end_the_table(tmp_path: Path) -> None:
    class Refusing(Scripted):
        def start(self, name, arguments, log):  # type: ignore[no-untyped-def]
            if "proxy-anchor" in name:
                raise UserError("the job server did not take it")
            return super().start(name, arguments, log)

    progress, _, _ = go(*runs_on_cub(), Refusing(by_row), tmp_path)
    assert [each.error for each in progress] == ["", "the job server did not take it", ""]


def test_a_run_of_another_table_in_the_same_folder_is_not_repeated(tmp_path: Path) -> None:
    go(*runs_on_cub(), Scripted(by_row), tmp_path)
    runner = Scripted(lambda name, arms: {arm: (85.0, 95.0) for arm in arms})
    shown, runs = runs_on_cub("embedding-size")
    _, text, _ = go(shown, runs, runner, tmp_path)
    assert [name.split("-s1-")[0] for name in runner.names] == [
        "cub-qwen3vl-8b-saga-512",
        "cub-qwen3vl-8b-saga-128",
    ]
    assert line(text, "SAGA, 4096 numbers")[2] == "88.0"
    # The ablation wants an arm more of these settings: that is another run.
    runner = Scripted(lambda name, arms: {arm: (85.0, 95.0) for arm in arms})
    go(*runs_on_cub("ablation"), runner, tmp_path)
    assert [name.split("-s1-")[0].removeprefix("cub-qwen3vl-8b-") for name in runner.names] == [
        "grpo",
        "grpo-generic",
        "distillation_saga",
    ]


def test_a_result_that_is_not_whole_is_made_again(tmp_path: Path) -> None:
    shown, runs = runs_on_cub()
    finish(tmp_path / "runs" / runs[1].name, {"metric": (80.0, 92.0)})
    finish(tmp_path / "runs" / runs[2].name, {"saga": (80.0, 92.0)})
    (tmp_path / "runs" / runs[1].name / "result.json").write_text("{")
    assert [each.state for each in look(tmp_path, runs)] == ["to come"] * 3


def test_so_many_run_at_once(tmp_path: Path) -> None:
    for at_once in (1, 2, 3):
        runner = Scripted(by_row)
        go(*runs_on_cub(seeds=(1, 2)), runner, tmp_path / str(at_once), at_once=at_once)
        assert runner.most_at_once == at_once and len(runner.started) == 6


def test_an_interruption_stops_what_is_under_way_and_leaves_the_table(tmp_path: Path) -> None:
    def second_interrupts(name: str, arms: list[str]) -> Measured:
        if "proxy-anchor" in name:
            raise KeyboardInterrupt
        return by_row(name, arms)

    shown, runs = runs_on_cub()
    runner = Scripted(second_interrupts)
    with pytest.raises(KeyboardInterrupt):
        go(shown, runs, runner, tmp_path)
    assert runner.stopped == [runs[1].name]
    text = (tmp_path / "table-1.md").read_text(encoding="utf-8")
    assert line(text, "SAGA")[2] == "88.0" and "the same command goes on" in text
    assert line(text, "Proxy Anchor, mean pooling")[-1] == "2 begun"
    assert line(text, "Potential Field, mean pooling")[-1] == "3 to come"

    again = Scripted(by_row)
    progress, _, _ = go(shown, runs, again, tmp_path)
    assert again.names == [runs[1].name, runs[2].name] and "--resume" in again.started[0]
    assert [each.state for each in progress] == ["finished"] * 3


@pytest.mark.parametrize(
    "printed, why",
    [
        ("a\nsaga: first\nsaga: last\nb\n", "last"),
        ("Traceback\n  File\nKilled\n", "Killed"),
        ("", "it printed nothing"),
    ],
)
def test_why_a_run_failed(printed: str, why: str) -> None:
    assert sentence(printed) == why


def test_all_that_is_missing_is_said_at_once(tmp_path: Path) -> None:
    known = SAGA.table("1")
    runs = runs_of(SAGA, known, data=["cub", "cars"], model="qwen3vl-8b", seeds=[1], inputs=tmp_path)
    (tmp_path / "data" / "cars196").mkdir(parents=True)
    lacks = missing(runs)
    assert [each.split(" (")[0].split(",")[0] for each in lacks] == [
        f"the release of cub in {tmp_path}/data/CUB_200_2011",
        "the release of cars",
        f"the supervisor {tmp_path}/supervisors/qwen3vl-8b-birds",
        f"the supervisor {tmp_path}/supervisors/qwen3vl-8b-cars",
    ]
    with pytest.raises(UserError, match="^4 inputs are missing: ") as caught:
        require(runs)
    assert all(each in str(caught.value) for each in lacks) and "--inputs" in str(caught.value)
    require([])


def test_a_run_here_is_a_process_that_shows_and_keeps_what_it_prints(tmp_path: Path) -> None:
    shown: list[str] = []
    log = tmp_path / "run.log"
    log.write_text("of an earlier session\n")
    run = Local(shown.append).start("run", ["furnitur", "--output", str(tmp_path / "run")], log)
    ended: Ended | None = None
    while ended is None:
        ended = run.ended()
    run.stop()  # harmless
    assert not ended.ok and "earlier" not in ended.said
    assert sentence(ended.said).startswith("'furnitur' is not a preset; did you mean 'furniture'?")
    assert log.read_text() == "of an earlier session\n" + "".join(shown)


def test_a_run_here_ends_when_it_is_stopped(tmp_path: Path) -> None:
    run = Local(lambda text: None).start("run", ["furniture", "--dry-run"], tmp_path / "run.log")
    run.stop()
    ended = run.ended()
    assert ended is not None
