from __future__ import annotations

from saga_ray.config.settings import ARM_NAMES, Settings
from saga_ray.train.arms import ARMS, arm_settings, execution_order, needs_rollouts


def test_every_arm_that_settings_allow_is_defined_and_gives_valid_settings() -> None:
    assert set(ARMS) == set(ARM_NAMES)
    for arm in ARMS.values():
        arm_settings(Settings(), arm)


def test_saga_runs_before_the_arms_that_take_its_batches_or_seconds() -> None:
    order = [arm.name for arm in execution_order(["equal-compute", "metric", "saga", "start"])]
    assert order == ["start", "saga", "equal-compute", "metric"]


def test_arms_without_a_supervisor_ask_it_nothing_and_the_others_do() -> None:
    silent = {name for name, arm in ARMS.items() if not needs_rollouts(arm_settings(Settings(), arm))}
    assert silent == {"metric", "equal-compute"}
    assert not ARMS["start"].trains


def test_an_arm_changes_the_weights_it_names_and_nothing_else() -> None:
    settings = Settings()
    grpo = arm_settings(settings, ARMS["grpo"])
    assert (grpo.metric.weight, grpo.grpo.weight, grpo.distillation.weight) == (0.0, 1.0, 0.0)
    grpo.metric.weight, grpo.distillation.weight = 1.0, 1.0
    assert grpo == settings
