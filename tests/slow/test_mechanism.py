"""The mechanism, shown: the frozen supervisor's gradient alone improves retrieval on unseen classes.

GRPO alone, tower rate 2e-5, 100 steps; no loss reaches the pooler, so it stays what it starts as: mean
pooling. The control is the same run with the pairs' targets permuted. The supervisor is asked with the
generic template, for differences and verdict, and sampled from its whole distribution; it never saw the
classes that the encoder trains on. All of this was chosen on validation classes (`benchmarks/teacher.md`).
"""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest

from saga_ray.config.overrides import resolve
from saga_ray.train.run import run

SEEDS = (1, 2, 3)
ALONE = [
    "arms=[start,grpo]",
    "optimizer.tower_rate=2e-5",
    "train.steps=100",
    "supervisor.prompt=generic",
    "rollout.top_p=1.0",
    "data.pairs_per_batch=32",
    "grpo.informative_pairs=16",
    "distillation.weight=0",
    "tracking.system_metrics=false",
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_grpo_alone_raises_map_at_r_on_unseen_classes_and_permuted_targets_do_not(tmp_path: Path) -> None:
    over_start, over_control = [], []
    for seed in SEEDS:
        scores = {}
        for name, shuffle in (("true", "false"), ("permuted", "true")):
            changes = [*ALONE, f"seed={seed}", f"grpo.shuffle_targets={shuffle}"]
            result = run(resolve("furniture", changes, None), tmp_path / f"{name}-{seed}")
            scores[name] = {arm: 100 * measured.map_at_r for arm, measured in result.test.items()}
        print(f"seed {seed}: {scores}")
        over_start.append(scores["true"]["grpo"] - scores["true"]["start"])
        over_control.append(scores["true"]["grpo"] - scores["permuted"]["grpo"])
    assert min(over_start) > 0, over_start
    assert min(over_control) > 0, over_control
    assert statistics.mean(over_start) >= 1.0, over_start
    assert statistics.mean(over_control) >= 1.0, over_control
