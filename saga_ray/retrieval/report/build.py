"""Makes the page's sections from a run's tables, neighbours, attention and sample rollouts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from saga_ray.config.settings import GrpoSettings, ReportSettings
from saga_ray.data.table import ImageTable
from saga_ray.losses.grpo import group_advantages
from saga_ray.prompts.verdict import parse_answer
from saga_ray.retrieval.protocol import Protocol
from saga_ray.retrieval.report.choose import WonAndLost, spread, won_and_lost
from saga_ray.retrieval.report.data import (
    Answer,
    Attended,
    Comparison,
    Neighbour,
    Omitted,
    Query,
    Rollout,
)

PICTURE_SIZE = 112  # pixels; the page shows no picture larger


def compare(
    table: ImageTable,
    protocol: Protocol,
    neighbours: Mapping[str, NDArray[np.int64]],
    settings: ReportSettings,
    *,
    baseline: str = "metric",
    challenger: str = "saga",
) -> Comparison | Omitted:
    """Queries that one of two arms alone gets right at rank 1.

    `neighbours`: arm -> rows of `table` that are the nearest of each of the protocol's queries, best first
    (Q x K).
    """
    missing = [arm for arm in (baseline, challenger) if arm not in neighbours]
    if missing:
        return Omitted(f"it compares the arms {baseline} and {challenger}; this run had no arm {missing[0]}")
    of_baseline, of_challenger = neighbours[baseline], neighbours[challenger]
    chosen = won_and_lost(table.labels, protocol, of_baseline, of_challenger, settings.queries)
    if not chosen.won and not chosen.lost:
        return Omitted(f"{challenger} and {baseline} are right at rank 1 on the very same queries")

    def shown(row: int, nearest_K: NDArray[np.int64]) -> list[Neighbour]:
        return [
            Neighbour(_picture(table, n), _label(table, n), bool(table.labels[n] == table.labels[row]))
            for n in nearest_K[: settings.neighbours].tolist()
        ]

    def queries(places: Sequence[int]) -> list[Query]:
        rows = protocol.query_Q[list(places)].tolist()
        return [
            Query(
                _picture(table, row),
                _label(table, row),
                shown(row, of_baseline[place]),
                shown(row, of_challenger[place]),
            )
            for place, row in zip(places, rows, strict=True)
        ]

    return _comparison(baseline, challenger, chosen, queries(chosen.won), queries(chosen.lost))


def attended(
    table: ImageTable, rows: Sequence[int], beta: Mapping[str, NDArray[np.floating[Any]]]
) -> list[Attended]:
    """Pictures with the pooler's attention. `beta`: arm -> beta_MN of these rows, in their order."""
    return [
        Attended(_picture(table, row), _label(table, row), {arm: beta_MN[m] for arm, beta_MN in beta.items()})
        for m, row in enumerate(rows)
    ]


def rollouts(
    table: ImageTable,
    history: Mapping[str, Sequence[Mapping[str, Any]]],
    settings: ReportSettings,
    grpo: GrpoSettings,
    verdict_key: str,
) -> list[Rollout] | Omitted:
    """Groups kept in the step records under `sample`: of saga, or of the arm that has most; spread over time.

    `table` is the part of the data that was trained on: samples name its rows.
    """
    kept = {arm: [record for record in records if "sample" in record] for arm, records in history.items()}
    if not any(kept.values()):
        return Omitted("no arm of this run had rollouts with informative groups")
    arm = "saga" if kept.get("saga") else max(kept, key=lambda name: len(kept[name]))
    return [
        _rollout(table, arm, record, grpo, verdict_key) for record in spread(kept[arm], settings.rollouts)
    ]


def _rollout(
    table: ImageTable, arm: str, record: Mapping[str, Any], grpo: GrpoSettings, verdict_key: str
) -> Rollout:
    sample = record["sample"]
    advantages = group_advantages(
        torch.tensor(sample["rewards"], dtype=torch.float64),
        std=grpo.advantage_std,
        epsilon=grpo.advantage_epsilon,
    ).tolist()
    return Rollout(
        arm=arm,
        step=int(record["step"]),
        picture_a=_picture(table, sample["row_a"]),
        picture_b=_picture(table, sample["row_b"]),
        label_a=_label(table, sample["row_a"]),
        label_b=_label(table, sample["row_b"]),
        same=bool(sample["same"]),
        answers=[
            Answer(text, parse_answer(text, verdict_key).verdict, reward, advantage, finish == "length")
            for text, finish, reward, advantage in zip(
                sample["answers"], sample["finish"], sample["rewards"], advantages, strict=True
            )
        ],
    )


def _comparison(
    baseline: str, challenger: str, chosen: WonAndLost, won: list[Query], lost: list[Query]
) -> Comparison:
    return Comparison(baseline, challenger, won, lost, chosen.won_of_all, chosen.lost_of_all, chosen.queries)


def _picture(table: ImageTable, row: int) -> NDArray[np.uint8]:
    return table.read_image(int(row), PICTURE_SIZE)


def _label(table: ImageTable, row: int) -> str:
    return table.classes[int(table.labels[row])]
