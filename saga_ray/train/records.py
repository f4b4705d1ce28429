"""What a step leaves behind: one flat record for curves and MLflow, now and then a group for the report."""

from __future__ import annotations

from typing import Any

from saga_ray.data.batches import StreamedBatch
from saga_ray.rollout.groups import Group
from saga_ray.train.step import StepResult
from saga_ray.train.teaching import AcceptedPair

StepRecord = dict[str, Any]


def step_record(result: StepResult, progress: float, rate: float, seconds: float) -> StepRecord:
    """Flat metrics by name (``loss/metric``, ``gradient/tokens/cosine``, …), with the step and its micro-
    batches.
    """
    record: StepRecord = {
        "step": result.step,
        "micro_batches": result.micro_batches,
        "progress": progress,
        "rate": rate,
    }
    for prefix, values in (
        ("loss", result.losses),
        ("gradient", result.gradients),
        ("rollout", result.rollouts),
        ("seconds", {**result.seconds, "step": seconds}),
    ):
        record.update({f"{prefix}/{name}": value for name, value in values.items()})
    return record


def sample_record(sample: tuple[StreamedBatch, Group, AcceptedPair]) -> dict[str, Any]:
    """A group as the report shows it: table rows of both pictures, target, answers, rewards."""
    batch, group, pair = sample
    return {
        "row_a": int(batch.rows_B[pair.a]),
        "row_b": int(batch.rows_B[pair.b]),
        "same": group.same,
        "answers": [completion.text for completion in group.completions],
        "finish": [completion.finish for completion in group.completions],
        "rewards": list(group.rewards),
    }


def scalar_metrics(record: StepRecord) -> dict[str, float]:
    """The numbers of a record, for MLflow."""
    return {
        name: float(value)
        for name, value in record.items()
        if name != "step" and isinstance(value, int | float)
    }
