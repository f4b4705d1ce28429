"""The sweep's page and numbers, from trials that are written down here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saga_ray.config.sweep import SweepSettings
from saga_ray.errors import UserError
from saga_ray.tune import drawing
from saga_ray.tune.importance import importances, place
from saga_ray.tune.report import write_sweep_report
from saga_ray.tune.result import SweepResult, TrialResult, over_seeds, ranking, read

SWEEP = SweepSettings.model_validate(
    {
        "name": "weights",
        "searcher": "random",
        "parameters": {
            "grpo.weight": {"kind": "log-uniform", "low": 0.01, "high": 1.0},
            "metric.loss": {"kind": "choice", "values": ["infonce", "proxy_anchor"]},
            "metric.options.alpha": {
                "kind": "uniform",
                "low": 8,
                "high": 64,
                "when": {"metric.loss": "proxy_anchor"},
            },
        },
    }
)


def trials(count: int = 12) -> list[TrialResult]:
    """The measure follows the weight's logarithm alone; one trial failed, one was stopped."""
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        weight = float(10 ** rng.uniform(-2, 0))
        values: dict[str, Any] = {
            "grpo.weight": weight,
            "metric.loss": ["infonce", "proxy_anchor"][number % 2],
        }
        if number % 2:
            values["metric.options.alpha"] = float(rng.uniform(8, 64))
        value = 0.7 + 0.05 * float(np.log10(weight))
        history = [(20, value - 0.1), (40, value)]
        if number == 3:
            found.append(
                TrialResult(
                    id="t3", values=values, status="failed", history=[], seconds=1.0, error="a\nout of luck"
                )
            )
            continue
        status = "stopped" if number == 4 else "finished"
        kept = history[:1] if number == 4 else history
        found.append(
            TrialResult.model_validate(
                {"id": f"t{number}", "values": values, "status": status, "history": kept, "seconds": 60.0}
            )
        )
    return found


def result(of: list[TrialResult], **changes: Any) -> SweepResult:
    order = ranking(of, "max")
    measured = {
        "recall@1": 0.9,
        "recall@4": 0.95,
        "map@r": 0.7,
        "r_precision": 0.75,
        "nmi": 0.9,
    }
    data = {
        "source": "furniture",
        "hash": "0",
        "train_images": 1,
        "train_classes": 1,
        "test_images": 3168,
        "test_classes": 396,
        "skipped": 0,
    }
    values = {
        "name": "weights",
        "preset": "furniture",
        "metric": "map@r",
        "mode": "max",
        "interrupted": False,
        "trials": of,
        "best": order[0].id if order else None,
        "test": {trial.id: measured for trial in order[:2]},
        "data": data,
        "seconds": 754.0,
        "versions": {},
    }
    return SweepResult.model_validate(values | changes)


def test_the_best_is_among_those_that_finished() -> None:
    found = trials()
    order = ranking(found, "max")
    assert {trial.status for trial in order} == {"finished"} and len(order) == 10
    assert [trial.value for trial in order] == sorted((trial.value for trial in order), reverse=True)
    assert ranking(found, "min") == order[::-1]


def test_one_lucky_seed_does_not_win() -> None:
    measured = {(0.1, 1): 0.70, (0.1, 2): 0.72, (0.3, 1): 0.65, (0.3, 2): 0.75, (1.0, 1): 0.6, (1.0, 2): 0.6}
    found = [
        TrialResult(
            id=f"w{weight}s{seed}",
            values={"grpo.weight": weight, "seed": seed},
            status="finished",
            history=[(10, value)],
            seconds=1.0,
        )
        for (weight, seed), value in measured.items()
    ]
    order = ranking(found, "max")
    assert [trial.id for trial in order] == ["w0.1s2", "w0.3s2", "w1.0s1"]
    assert over_seeds(found, order[0]) == pytest.approx(0.71)
    assert [trial.id for trial in ranking(found, "min")] == ["w1.0s1", "w0.3s1", "w0.1s1"]


def test_what_decides_is_what_mattered() -> None:
    shares = importances(SWEEP, trials(40))
    assert shares is not None and sum(shares.values()) == pytest.approx(1)
    assert shares["grpo.weight"] > 0.9
    assert importances(SWEEP, trials(8)) is None, "six have finished"


def test_places_on_an_axis() -> None:
    trial = TrialResult(
        id="t",
        values={"grpo.weight": 0.1, "metric.loss": "proxy_anchor"},
        status="finished",
        history=[],
        seconds=0,
    )
    assert place(SWEEP, "grpo.weight", trial) == pytest.approx(0.5)
    assert place(SWEEP, "metric.loss", trial) == 1.0
    assert place(SWEEP, "metric.options.alpha", trial) == -1.0


def test_the_page_shows_the_winner_every_trial_and_the_errors(tmp_path: Path) -> None:
    found = result(trials())
    page = write_sweep_report(tmp_path / "report", SWEEP, found).read_text()
    assert found.best is not None and f"{found.trial(found.best).values['grpo.weight']}" in page
    assert page.count("<svg") == 1 + 3 + 1 and "out of luck" in page
    assert page.count("<tr") == 1 + 2 + 3 + 1 + 12
    assert "http" not in page, "it asks for nothing else"
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["index.html"]


@pytest.mark.parametrize(
    "low, high, labels",
    [
        (0.7811, 0.7826, ["78.05", "78.10", "78.15", "78.20", "78.25", "78.30"]),
        (0.4, 0.7, ["30", "40", "50", "60", "70", "80"]),
    ],
)
def test_the_labels_of_an_axis_differ_by_its_step(low: float, high: float, labels: list[str]) -> None:
    pair = [
        trial.model_copy(update={"history": [(20, value)]})
        for trial, value in zip(trials(2), (low, high), strict=True)
    ]
    svg = drawing.best_so_far(pair, "max")
    assert re.findall(r'text-anchor="end">([^<]+)</text>', svg) == labels


def test_a_sweep_in_which_nothing_finished_has_a_page_too(tmp_path: Path) -> None:
    failed = [trial for trial in trials() if trial.status == "failed"]
    page = write_sweep_report(tmp_path, SWEEP, result(failed, interrupted=True)).read_text()
    assert "No trial has finished" in page and "was interrupted" in page


def test_a_result_comes_back_from_its_file(tmp_path: Path) -> None:
    found = result(trials())
    found.write(tmp_path)
    assert read(tmp_path) == found
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(UserError, match="is not a sweep's result"):
        read(tmp_path)
