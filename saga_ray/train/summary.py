"""From step records and measures to the numbers of ``result.json``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from saga_ray.config.settings import Settings
from saga_ray.data.table import ImageTable
from saga_ray.retrieval.record import data_record, installed_versions
from saga_ray.train.records import StepRecord
from saga_ray.train.result import ArmResult, Result, RolloutArmResult


class NamedEngine(Protocol):
    """What generated the completions."""

    engine_name: str
    engine_version: str


def training_outcome(records: Sequence[StepRecord], engine: NamedEngine | None) -> dict[str, Any]:
    """Seconds of an arm's steps and, where an engine answered, what was asked of it, over all steps."""
    seconds = float(sum(record["seconds/step"] for record in records))
    if engine is None:
        return {"seconds": seconds}

    def total(name: str) -> int:
        return int(sum(record[f"rollout/{name}"] for record in records))

    ratios = [
        record["gradient/tokens/grpo"] / record["gradient/tokens/metric"]
        for record in records
        if record["gradient/tokens/metric"] > 0 and record["rollout/pairs_replayed"] > 0
    ]
    return {
        "seconds": seconds,
        "engine": {"name": engine.engine_name, "version": engine.engine_version},
        "steps": len(records),
        "requests": total("requests"),
        "groups": total("groups"),
        "informative_share": total("informative") / max(total("groups"), 1),
        "pairs_replayed": total("pairs_replayed"),
        "tokens": total("tokens"),
        "truncated_share": total("truncated") / max(total("completions"), 1),
        "unparsable_share": total("unparsable") / max(total("completions"), 1),
        "grad_ratio_grpo_metric": statistics.median(ratios) if ratios else None,
    }


def summarise(
    settings: Settings, table: ImageTable, arms: Mapping[str, Mapping[str, Any]], seconds: float
) -> Result:
    """The whole run's result; `arms` in the order of the table."""
    return Result(
        name=settings.name,
        seed=settings.seed,
        test={
            name: (RolloutArmResult if "engine" in arm else ArmResult).model_validate(arm)
            for name, arm in arms.items()
        },
        data=data_record(settings.data.source, table, settings.evaluation.part),
        seconds=seconds,
        versions=installed_versions(),
    )
