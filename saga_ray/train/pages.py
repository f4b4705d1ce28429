"""The report of a finished run, made from what its folder holds; can be made again at any time."""

from __future__ import annotations

import numpy as np

from saga_ray.config.settings import Settings
from saga_ray.data.table import ImageTable
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import attention
from saga_ray.retrieval.evaluation import ranked
from saga_ray.retrieval.protocol import Protocol
from saga_ray.retrieval.report import build
from saga_ray.retrieval.report.choose import spread
from saga_ray.retrieval.report.data import Attended, Omitted, ReportData
from saga_ray.retrieval.report.page import write_report
from saga_ray.tracking.parameters import parameters
from saga_ray.train.folder import RunFolder
from saga_ray.train.result import Result, facts, report_table, rollout_table

ATTENDED_PICTURES = 6


def write_run_report(
    folder: RunFolder, settings: Settings, table: ImageTable, verdict_key: str, result: Result
) -> None:
    """Write ``report/index.html`` from the result, the step records, the embeddings and the models of the
    run.
    """
    test = table.part(settings.evaluation.part)
    history = {name: folder.steps(name) for name in result.test if folder.steps(name)}
    neighbours = {}
    protocol = Protocol.of(test.roles, len(test))
    for name in result.test:
        z_ME = np.load(folder.embeddings(name)).astype(np.float32)
        z_ME /= np.linalg.norm(z_ME, axis=1, keepdims=True)
        places_QK = ranked(z_ME, protocol, settings.report.neighbours, seed=settings.seed)
        neighbours[name] = protocol.gallery_G[places_QK]
    data = ReportData(
        title=settings.name,
        note=result.data.note,
        facts=facts(result),
        versions=result.versions,
        table=report_table(result),
        rollout_table=rollout_table(result),
        history=history or Omitted("no arm of this run was trained"),
        comparison=build.compare(test, protocol, neighbours, settings.report),
        attention=_attended(folder, settings, test, result),
        rollouts=build.rollouts(table.part("train"), history, settings.report, settings.grpo, verdict_key),
        settings=parameters(settings),
        defaults=parameters(Settings()),
    )
    write_report(folder.report, data, verdict_key=verdict_key)


def _attended(
    folder: RunFolder, settings: Settings, test: ImageTable, result: Result
) -> list[Attended] | Omitted:
    """The pooler's attention of every arm that trained one, over pictures of evenly spaced test classes."""
    if settings.encoder.pooling == "mean":
        return Omitted("the encoder pools by the mean, so it has no attention")
    _, firsts = np.unique(test.labels, return_index=True)
    rows = spread([int(row) for row in firsts], ATTENDED_PICTURES)
    arms = [name for name in ("start", "metric", "saga") if name in result.test] or list(result.test)[:3]
    beta = {
        name: attention(test, Encoder.load(folder.model(name)), rows, settings.data.image_size)
        for name in arms
    }
    return build.attended(test, rows, beta)
