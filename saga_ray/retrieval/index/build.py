"""From an encoder and pictures to an index, or to more rows in one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from saga_ray.config.settings import EvaluationSettings
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.retrieval.index import change, kinds
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index.change import Embedded, Existing
from saga_ray.retrieval.index.entries import entries, ids_of
from saga_ray.retrieval.index.identity import encoder_hash
from saga_ray.retrieval.index.snapshot import Info, Snapshot


def build(
    model: Path,
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
    encoder = _on_device(Encoder.load(model))
    embedded = _embed(encoder, table, settings, local, gpus, range(len(table)))
    info = Info(
        kind=kind,
        size=len(table),
        width=embedded[0].shape[1],
        encoder_hash=encoder_hash(model),
        model=str(model),
        image_size=encoder.tower.image_size,
        sources=[source],
        next_key=0,
        effort=None,
    )
    return change.create(folder, info, embedded)


def add(
    folder: Path,
    table: ImageTable,
    settings: EvaluationSettings,
    *,
    source: str,
    model: Path | None = None,
    existing: Existing = "refuse",
    local: bool | None = None,
    gpus: float = 0.0,
) -> tuple[Info, int]:
    """Embed a table's pictures with the index's encoder and add them; see `change.add`.

    `model` says where the encoder is now, if no longer where it was.
    """
    if model is None:
        model = Path(Snapshot.read_current(folder).info.model)
        if not model.is_dir():
            raise UserError(f"the encoder of the index {folder} is no longer at {model}; give it by --model")
    encoder = _on_device(Encoder.load(model))
    return change.add(
        folder,
        ids_of(table),
        partial(_embed, encoder, table, settings, local, gpus),
        encoder_hash=encoder_hash(model),
        source=source,
        existing=existing,
    )


def _embed(
    encoder: Encoder,
    table: ImageTable,
    settings: EvaluationSettings,
    local: bool | None,
    gpus: float,
    rows: Sequence[int],
) -> Embedded:
    z_ME, _ = embed(table, encoder, settings, encoder.tower.image_size, rows=rows, local=local, gpus=gpus)
    return z_ME, entries(table, rows)


def _on_device(encoder: Encoder) -> Encoder:
    """On this process's GPU where there is one; actors of Ray place their own copy."""
    return encoder.to("cuda") if torch.cuda.is_available() else encoder
