"""The arms of a comparison: what each changes in the run's settings, and what it takes from another arm's
run.

Every arm starts from the same encoder, plan and seed. `metric` and the arms without rollouts replay the
micro-batches that `saga` consumed, so that the arms differ in their losses alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from saga_ray.config.settings import Settings


@dataclass(frozen=True)
class Arm:
    """One row of the result table."""

    name: str
    meaning: str
    changes: dict[str, dict[str, float | str | bool]]
    trains: bool = True
    same_batches_as_saga: bool = False
    same_seconds_as_saga: bool = False


_NO_SUPERVISOR: dict[str, dict[str, float | str | bool]] = {
    "grpo": {"weight": 0.0},
    "distillation": {"weight": 0.0},
}

ARMS = {
    arm.name: arm
    for arm in (
        Arm("start", "the supervisor's tower, mean pooling, no training", {}, trains=False),
        Arm("saga", "metric loss + GRPO + attention distillation", {}),
        Arm(
            "metric",
            "the metric loss alone: same pooler, batches and steps",
            _NO_SUPERVISOR,
            same_batches_as_saga=True,
        ),
        Arm("grpo", "GRPO alone", {"metric": {"weight": 0.0}, "distillation": {"weight": 0.0}}),
        Arm("distillation", "metric loss + attention distillation", {"grpo": {"weight": 0.0}}),
        Arm(
            "verdict-ce",
            "as saga, cross entropy on the verdict in place of GRPO",
            {"grpo": {"objective": "verdict-ce"}},
        ),
        Arm(
            "random-gradient",
            "control: as saga, noise as large as GRPO's gradient in its place",
            {"grpo": {"objective": "random"}},
        ),
        Arm(
            "shuffled-labels",
            "control: as saga, the pairs' same/different targets permuted",
            {"grpo": {"shuffle_targets": True}},
        ),
        Arm(
            "equal-compute",
            "the metric loss alone for as many seconds as saga took",
            _NO_SUPERVISOR,
            same_seconds_as_saga=True,
        ),
    )
}


def arm_settings(settings: Settings, arm: Arm) -> Settings:
    """The run's settings with the arm's changes."""
    values = settings.model_dump()
    for section, changes in arm.changes.items():
        values[section].update(changes)
    return Settings.model_validate(values)


def execution_order(names: list[str]) -> list[Arm]:
    """`start` first and `saga` before the arms that take its batches or its seconds; else as asked for."""
    first = [name for name in ("start", "saga") if name in names]
    return [ARMS[name] for name in first + [name for name in names if name not in first]]


def needs_rollouts(settings: Settings) -> bool:
    """Whether a run with these settings asks the supervisor anything."""
    return settings.grpo.weight > 0 or settings.distillation.weight > 0
