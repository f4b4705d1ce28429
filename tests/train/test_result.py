"""``result.json`` holds the keys that scripts look for, and the table shows these very numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from rich.console import Console

from saga_ray.errors import UserError
from saga_ray.retrieval.report import Omitted, ResultTable
from saga_ray.train import result as results
from saga_ray.train.result import Result

MEASURED = {"recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi"}
ROLLOUT_KEYS = {
    "engine",
    "steps",
    "requests",
    "groups",
    "informative_share",
    "pairs_replayed",
    "tokens",
    "truncated_share",
    "unparsable_share",
    "grad_ratio_grpo_metric",
}


def measured(map_at_r: float, **more: Any) -> dict[str, Any]:
    fractions = dict.fromkeys(MEASURED, 0.5) | {"recall@1": 0.8761, "map@r": map_at_r}
    return fractions | {"queries": 3960, "queries_left_out": 0, "seconds": 1.5} | more


def a_result(**changes: Any) -> Result:
    rollouts = dict.fromkeys(ROLLOUT_KEYS, 1) | {"engine": {"name": "vllm", "version": "0.32.0"}}
    return Result.model_validate(
        {
            "name": "demo",
            "seed": 1,
            "test": {
                "start": measured(0.4112),
                "metric": measured(0.599),
                "saga": measured(0.5904, **rollouts),
            },
            "data": {
                "source": "furniture",
                "note": "Renders of artists' models, not photographs.",
                "hash": "ab" * 32,
                "train_images": 1400,
                "train_classes": 140,
                "test_images": 3960,
                "test_classes": 396,
                "skipped": 0,
            },
            "seconds": 702.4,
            "versions": {"python": "3.11"},
        }
        | changes
    )


def test_file_has_the_promised_keys(tmp_path: Path) -> None:
    path = a_result().write(tmp_path)
    assert path == tmp_path / "result.json"
    written = json.loads(path.read_text())
    assert list(written["test"]) == ["start", "metric", "saga"]
    for arm in written["test"].values():
        assert set(arm) >= MEASURED
    assert set(written["test"]["saga"]) >= ROLLOUT_KEYS
    assert not set(written["test"]["metric"]) & ROLLOUT_KEYS
    assert written["test"]["saga"]["engine"] == {"name": "vllm", "version": "0.32.0"}
    assert set(written["data"]) >= {
        "hash",
        "train_images",
        "train_classes",
        "test_images",
        "test_classes",
        "skipped",
    }
    assert written["seconds"] == 702.4
    assert written["versions"] == {"python": "3.11"}


def test_read_gives_back_what_was_written(tmp_path: Path) -> None:
    result = a_result()
    path = result.write(tmp_path)
    assert results.read(path) == results.read(tmp_path) == result


def test_write_leaves_nothing_beside_the_file(tmp_path: Path) -> None:
    a_result().write(tmp_path)
    a_result(name="again").write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert results.read(tmp_path).name == "again"


@pytest.mark.parametrize("wrong", [-0.01, 1.01, 87.6, float("nan")])
def test_measures_are_fractions(wrong: float) -> None:
    with pytest.raises(ValidationError):
        a_result(test={"start": measured(wrong)})


def test_gradient_ratio_may_be_undefined() -> None:
    saga = a_result().model_dump(by_alias=True)["test"]["saga"] | {"grad_ratio_grpo_metric": None}
    written = json.loads(a_result(test={"grpo": saga}).to_json())
    assert written["test"]["grpo"]["grad_ratio_grpo_metric"] is None


def test_read_of_a_folder_without_a_result_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no result\.json"):
        results.read(tmp_path)


def test_read_of_something_else_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text('{"name": "demo"}')
    with pytest.raises(UserError, match=r"result\.json is not a run's result: seed"):
        results.read(tmp_path)


def test_table_shows_the_files_numbers() -> None:
    result = a_result()
    assert results.table_columns(result) == [
        "R@1",
        "R@4",
        "MAP@R",
        "R-Prec",
        "NMI",
        "MAP@R - start",
        "MAP@R - metric",
    ]
    assert dict(results.table_rows(result)) == {
        "start": ["87.6", "50.0", "41.1", "50.0", "50.0", "", ""],
        "metric": ["87.6", "50.0", "59.9", "50.0", "50.0", "+18.8", ""],
        "saga": ["87.6", "50.0", "59.0", "50.0", "50.0", "+17.9", "-0.9"],
    }


def test_a_loss_is_read_out_as_a_loss_and_the_data_s_note_is_said() -> None:
    text = " ".join(results.reading(a_result()))
    assert "-0.9 points of MAP@R" in text
    assert "3,960 queries of 396 classes" in text
    assert "not photographs" in text


def test_a_run_of_one_arm_has_a_table_without_gains() -> None:
    result = a_result(test={"grpo": measured(0.44)})
    assert results.table_columns(result)[-1] == "NMI"
    assert len(results.reading(result)) == 2


def test_console_table_fits_an_ordinary_terminal() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(results.render_table(a_result()))
    row = next(line for line in capture.get().splitlines() if line.strip().startswith("saga"))
    assert row.split() == ["saga", "87.6", "50.0", "59.0", "50.0", "50.0", "+17.9", "-0.9"]


@pytest.mark.parametrize(("difference", "text"), [(0.0004, "0.0"), (-0.0004, "0.0"), (0.012, "+1.2")])
def test_points_carry_a_sign_unless_they_round_to_nothing(difference: float, text: str) -> None:
    assert results.points(difference) == text


def test_the_report_s_tables_hold_the_file_s_numbers() -> None:
    result = a_result()
    table = results.report_table(result)
    assert dict(table.rows)["saga"] == dict(results.table_rows(result))["saga"]
    assert result.data.note not in table.reading, "the page says it in its head"
    rollouts = results.rollout_table(result)
    assert isinstance(rollouts, ResultTable)
    cells = dict(zip(rollouts.columns, rollouts.rows[0][1], strict=True))
    assert (rollouts.rows[0][0], len(rollouts.rows)) == ("saga", 1)
    assert cells["informative"] == "100.0" and cells["|GRPO| / |metric|"] == "1.00" and cells["steps"] == "1"
    assert "vllm 0.32.0" in rollouts.reading[0]


def test_a_run_without_rollouts_has_no_table_of_them() -> None:
    assert isinstance(results.rollout_table(a_result(test={"metric": measured(0.6)})), Omitted)


def test_queries_in_a_gallery_have_recalls_of_their_own(tmp_path: Path) -> None:
    recalls = {f"recall@{k}": 0.5 + k / 1000 for k in (1, 10, 20, 30, 40, 50)}
    arm = {name: value for name, value in measured(0.41).items() if not name.startswith("recall@")} | recalls
    data = a_result().data.model_dump() | {"test_images": 26830, "gallery_images": 12612}
    result = a_result(test={"start": arm, "metric": arm | {"map@r": 0.5}}, data=data)
    written = json.loads(result.write(tmp_path).read_text())
    assert set(written["test"]["start"]) == set(arm) and written["data"]["gallery_images"] == 12612
    assert results.read(tmp_path) == result
    columns = ["R@1", "R@10", "R@20", "R@30", "R@40", "R@50", "MAP@R", "MAP@R - start", "MAP@R - metric"]
    assert results.table_columns(result) == columns
    assert dict(results.table_rows(result))["metric"] == [
        *("50.1", "51.0", "52.0", "53.0", "54.0", "55.0", "50.0"),
        *("+9.0", ""),
    ]
    assert "candidates are the gallery's 12,612 pictures alone" in results.reading(result)[0]
    tested = dict(results.facts(result))["Tested on"]
    assert tested == "14,218 queries in a gallery of 12,612 pictures of 396 other classes"


def test_recalls_are_those_of_one_protocol() -> None:
    whole = measured(0.4)
    for wrong in ({"recall@10": 0.5}, {"recall@2": None}):
        with pytest.raises(ValidationError, match="recalls of no protocol"):
            a_result(test={"start": whole | wrong})


def test_facts_name_the_pictures_and_the_time() -> None:
    facts = dict(results.facts(a_result()))
    assert facts["Tested on"] == "3,960 pictures of 396 other classes"
    assert facts["Time of the run"] == "11 min 42 s"
