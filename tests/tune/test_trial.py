"""A trial whose values no run can have fails by itself: neither Tune nor the other trials hear of more."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from saga_ray.config.searched import last_trained
from saga_ray.config.sweep import SweepSettings, trial_settings
from saga_ray.errors import UserError
from saga_ray.tune.encoders import EncoderTrials
from saga_ray.tune.search import POINT
from saga_ray.tune.trial import TrialTask, TuneTrial
from saga_ray.tune.watch import Watch

SWEEP = SweepSettings.model_validate(
    {
        "arm": "metric",
        "parameters": {
            "data.classes_per_batch": {"kind": "choice", "values": [16, 8]},
            "data.blocks": {"kind": "choice", "values": [2, 8]},
        },
    }
)
IMPOSSIBLE = {POINT: {"data.classes_per_batch": 8, "data.blocks": 8}}


def test_a_trial_that_cannot_run_says_why(tmp_path: Path) -> None:
    task = TrialTask(SWEEP, EncoderTrials(None), tmp_path, "parent", "sqlite://")

    class Alone(TuneTrial):
        def setup(self, config: dict[str, Any]) -> None:  # type: ignore[override]
            super().setup(config, task)

    trial = Alone(IMPOSSIBLE)
    with pytest.raises(UserError, match="must give every block two classes"):
        trial.step()
    assert "must give every block two classes" in task.error_file(trial.id).read_text()
    trial.cleanup()


def test_the_table_has_a_row_for_a_trial_that_cannot_run(tmp_path: Path) -> None:
    watch = Watch(SWEEP, tmp_path, lambda values: last_trained(trial_settings(SWEEP, values))[1])
    impossible = SimpleNamespace(trial_id="t1", config=IMPOSSIBLE)
    watch.on_trial_start(1, [], impossible)
    (tmp_path / "errors").mkdir()
    (tmp_path / "errors" / "t1.txt").write_text("it could not run")
    watch.on_trial_error(1, [], impossible)
    watch.on_trial_start(1, [], SimpleNamespace(trial_id="t2", config={}))
    assert [(each.state, each.error) for each in watch.trials.values()] == [
        ("failed", "it could not run"),
        ("runs", None),
    ]
    assert watch.table().row_count == 2
