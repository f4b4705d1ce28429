"""What ships about the paper: its numbers, and that every row is a run that can be made."""

from __future__ import annotations

from pathlib import Path

import pytest

from saga_ray.config.names import SOURCE_TREE
from saga_ray.config.overrides import resolve
from saga_ray.config.presets import preset_names
from saga_ray.errors import UserError
from saga_ray.losses import metric as metric_losses
from saga_ray.reproduce.runs import runs_of
from saga_ray.reproduce.tables import Paper, paper_names, read_paper

SAGA = read_paper("saga")
DATA = ("cub", "cars", "aircraft", "inat-aves")

# R@1/R@4 as the paper prints them.
MAIN = {
    "tower": "75.6/91.8 70.7/88.5 53.1/76.1 42.2/64.8",
    "proxy-anchor": "79.5/92.0 93.4/97.3 73.1/92.8 54.1/73.1",
    "potential-field": "81.6/92.9 93.7/97.8 77.4/93.2 55.6/75.0",
    "saga": "87.9/96.3 97.0/98.6 83.5/93.9 60.1/77.1",
}
# R@1 on CUB/Aircraft.
ABLATION = {
    "potential-field": "81.6/77.4",
    "grpo": "87.0/82.3",
    "grpo-generic": "84.1/79.6",
    "distillation": "82.1/78.1",
    "saga": "87.9/83.5",
}
# R@1 on CUB, without and with SAGA.
METRIC_LOSSES = {
    ("multi-similarity", "saga-multi-similarity"): "77.8 86.1",
    ("proxy-anchor", "saga-proxy-anchor"): "79.5 87.3",
}


def test_the_main_results_are_the_paper_s() -> None:
    assert list(SAGA.table("1").data) == list(DATA) and SAGA.table("1").rows == list(MAIN)
    for row, printed in MAIN.items():
        for data, pair in zip(DATA, printed.split(), strict=True):
            assert SAGA.numbers(row, data, "qwen3vl-8b") == [float(each) for each in pair.split("/")]


def test_so_is_the_ablation() -> None:
    assert SAGA.table("ablation").rows == list(ABLATION)
    for row, printed in ABLATION.items():
        for data, number in zip(("cub", "aircraft"), printed.split("/"), strict=True):
            assert SAGA.numbers(row, data, "qwen3vl-8b")[0] == float(number)
    assert SAGA.table("ablation").data == ["cub", "aircraft"]


def test_so_are_the_other_metric_losses() -> None:
    for rows, printed in METRIC_LOSSES.items():
        for row, number in zip(rows, printed.split(), strict=True):
            assert SAGA.numbers(row, "cub", "qwen3vl-8b")[0] == float(number)


def test_no_number_is_given_that_the_paper_does_not() -> None:
    given = {row for row in SAGA.rows if SAGA.rows[row].paper}
    of_pairs = {row for pair in METRIC_LOSSES for row in pair}
    assert given == {*MAIN, *ABLATION, *of_pairs, "saga-4096"}
    assert SAGA.rows["saga-4096"].paper == SAGA.rows["saga"].paper  # the main table's width
    for row in {*ABLATION, *of_pairs} - {*MAIN}:
        assert all(len(numbers) == 1 for numbers in SAGA.rows[row].paper.values())
    assert SAGA.numbers("saga", "cub", "internvl3.5-8b") == []


@pytest.mark.parametrize("model", SAGA.models)
@pytest.mark.parametrize("data", SAGA.data)
@pytest.mark.parametrize("name", SAGA.tables)
def test_every_table_is_runs_that_train_its_rows_arms(name: str, data: str, model: str) -> None:
    table = SAGA.table(name)
    runs = runs_of(SAGA, table, data=[data], model=model, seeds=[1], inputs=Path("/inputs"))
    made = {(row, run.data): run for run in runs for row in run.rows}
    assert set(made) == {(row, data) for row in table.rows}
    for (row, _), run in made.items():
        assert run.preset in preset_names() and SAGA.rows[row].arm in run.arms
        assert resolve(run.preset, run.overrides) == run.settings
        metric = run.settings.metric
        metric_losses.build(metric.loss, classes=3, width=4, seed=1, options=metric.options)


def test_every_row_is_in_a_table() -> None:
    assert {row for table in SAGA.tables.values() for row in table.rows} == set(SAGA.rows)


@pytest.mark.parametrize(
    "old, new, said",
    [
        ('title = "SAGA"\nsource', 'titel = "SAGA"\nsource', "titel: there is no such key"),
        ('arm = "start"', 'arm = "begin"', "rows.tower: 'begin' is not an arm; choose from start, "),
        ('arm = "start"', 'arms = "start"', "rows.tower.arms: there is no such key"),
        (
            'rows = ["verdict-ce", "saga"]',
            'rows = ["verdict"]',
            "tables.verdict.rows: 'verdict' is not in rows",
        ),
        ('arm = "start"', "", "rows.tower.arm: Field required"),
        ("cub = [77.8]", "cup = [77.8]", "rows.multi-similarity.paper: 'cup' is not in data"),
        ("cub = [77.8]", "cub = [778]", "rows.multi-similarity.paper.cub.0: Input should be less than"),
        ("[tables.1]", "[tables.1", "is not TOML: "),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(old: str, new: str, said: str, tmp_path: Path) -> None:
    text = (SOURCE_TREE / "jobs/reproduce/saga.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_paper(str(tmp_path / "mine.toml"))
    assert said in str(caught.value) and "mine.toml" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_not_there_is_said_with_what_is() -> None:
    assert paper_names() == ["saga"] and isinstance(SAGA, Paper)
    with pytest.raises(UserError, match="there is no paper 'sage'; did you mean 'saga'"):
        read_paper("sage")
    with pytest.raises(UserError, match="--table ablations: did you mean 'ablation'"):
        SAGA.table("ablations")
