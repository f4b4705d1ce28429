"""From step records and measures to the numbers of ``result.json``."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from saga_ray.config.settings import Settings
from saga_ray.data.table import ImageTable
from saga_ray.train.records import StepRecord
from saga_ray.train.result import ArmResult, DataRecord, Result, RolloutArmResult, installed_versions

RENDERS = (
    "The furniture pictures are renders of artists' 3D models, not photographs: "
    "no result on them stands for CUB, Cars or the like. Their makers are named in "
    "saga_ray/data/furniture/ATTRIBUTION.md (CC0 and CC-BY)."
)


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
    train, test = table.part("train"), table.part(settings.evaluation.part)
    return Result(
        name=settings.name,
        seed=settings.seed,
        test={
            name: (RolloutArmResult if "engine" in arm else ArmResult).model_validate(arm)
            for name, arm in arms.items()
        },
        data=data_record(settings.data.source, table, train, test),
        seconds=seconds,
        versions=installed_versions(),
    )


def data_record(source: str, table: ImageTable, train: ImageTable, test: ImageTable) -> DataRecord:
    """Which pictures were trained on and scored."""
    return DataRecord(
        source=source,
        note=RENDERS if source == "furniture" else "",
        hash=table.hash,
        train_images=len(train),
        train_classes=len(np.unique(train.labels)),
        test_images=len(test),
        test_classes=len(np.unique(test.labels)),
        skipped=len(table.skipped),
    )
