"""From a model and pictures to an index, or to more rows in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from saga_ray.config.settings import EvaluationSettings
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.retrieval.embed import embeddings
from saga_ray.retrieval.index import change, kinds
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index.change import Embedded, Existing
from saga_ray.retrieval.index.entries import entries, ids_of
from saga_ray.retrieval.index.snapshot import Info, Snapshot
from saga_ray.retrieval.model import Model


def build(
    model: Model,
    table: ImageTable,
    folder: Path,
    settings: EvaluationSettings,
    *,
    kind: str = "flat",
    source: str,
    local: bool | None = None,
    gpus: float = 0.0,
) -> Info:
    """Embed a table's pictures and write the index. `local` and `gpus` as in `retrieval.embed`.

    Raises UserError where the folder holds an index already, and for too few pictures for the kind.
    """
    if kind not in kinds.names():
        raise UserError(f"there is no index of kind {kind!r}; choose from {', '.join(kinds.names())}")
    folders.must_be_free(folder)
    ids_of(table)  # before the work begins
    embedded = _embed(model, table, settings, local, gpus, range(len(table)))
    info = Info(
        kind=kind,
        size=len(table),
        width=embedded[0].shape[1],
        encoder_hash=model.hash,
        model=str(model.folder),
        image_size=model.image_size,
        sources=[source],
        next_key=0,
        effort=None,
    )
    return change.create(folder, info, embedded)


def add(
    folder: Path,
    model: Model,
    table: ImageTable,
    settings: EvaluationSettings,
    *,
    source: str,
    existing: Existing = "refuse",
    local: bool | None = None,
    gpus: float = 0.0,
) -> tuple[Info, int]:
    """Embed a table's pictures with the index's model and add them; see `change.add`."""
    return change.add(
        folder,
        ids_of(table),
        partial(_embed, model, table, settings, local, gpus),
        encoder_hash=model.hash,
        source=source,
        existing=existing,
    )


def built_by(folder: Path) -> Path:
    """The folder of the model that built an index. Raises UserError where it is no longer there."""
    model = Path(Snapshot.read_current(folder).info.model)
    if not model.is_dir():
        raise UserError(f"the model of the index {folder} is no longer at {model}; give it by --model")
    return model


def _embed(
    model: Model,
    table: ImageTable,
    settings: EvaluationSettings,
    local: bool | None,
    gpus: float,
    rows: Sequence[int],
) -> Embedded:
    batches = embeddings(table, model.module, settings, model.image_size, rows=rows, local=local, gpus=gpus)
    return np.concatenate(list(batches)), entries(table, rows)
