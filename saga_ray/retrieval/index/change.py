"""Changes to an index: each makes one new snapshot from the current one; nothing is embedded or
trained again.

Consumes embeddings and entries, or ids; produces a snapshot; waits for nothing: where another process is
changing the index, it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saga_ray.errors import UserError
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index import kinds, snapshot
from saga_ray.retrieval.index.entries import with_keys
from saga_ray.retrieval.index.measure import tune
from saga_ray.retrieval.index.snapshot import Info, Snapshot
from saga_ray.retrieval.search import NORM_TOLERANCE

Existing = Literal["refuse", "skip", "replace"]
"""What to do with an id that is in the index already."""
Embedded = tuple[NDArray[np.float32], pa.Table]
"""Embeddings z_ME and the entries of the same M rows."""


def create(folder: Path, info: Info, embedded: Embedded) -> Info:
    """Write a new index; `info` says all but what the embeddings decide.

    Raises UserError where there is an index already.
    """
    z_ME, entries = embedded
    folders.must_be_free(folder)
    _check(z_ME, info.width)
    vectors = kinds.make(info.kind, z_ME)
    keys_M = np.arange(len(z_ME), dtype=np.int64)
    vectors.add(keys_M, z_ME)
    folder.mkdir(parents=True, exist_ok=True)
    with folders.changing(folder):
        folders.must_be_free(folder)  # still
        return _write(folder, info, vectors, with_keys(entries, keys_M), next_key=len(z_ME))


def add(
    folder: Path,
    ids: Sequence[str],
    embed: Callable[[Sequence[int]], Embedded],
    *,
    encoder_hash: str,
    source: str,
    existing: Existing = "refuse",
) -> tuple[Info, int]:
    """Add the rows with these ids; returns what the index is now, and how many rows were put in.

    `embed` is given those places in `ids` that are needed. Raises UserError where an id is in the index
    already and `existing` does not say what then, and where another model built the index.
    """
    assert len(set(ids)) == len(ids), "ids differ, see `entries.ids_of`"
    folders.must_hold_index(folder)
    with folders.changing(folder):
        now = Snapshot.read_current(folder)
        if now.info.encoder_hash != encoder_hash:
            raise UserError(
                f"the index {folder} was built by another model ({now.info.encoder_hash[:12]}…, then at "
                f"{now.info.model}); give that one by --model, or build a new index"
            )
        known = [id for id in ids if id in now.rows]
        if known and existing == "refuse":
            raise UserError(
                f"{len(known)} of {len(ids)} ids are in the index {folder} already, "
                f"the first is {known[0]!r}; give --existing skip or --existing replace"
            )
        places = [m for m, id in enumerate(ids) if existing != "skip" or id not in now.rows]
        if not places:
            return now.info, 0
        z_ME, entries = embed(places)
        _check(z_ME, now.info.width)
        table = _without(now, known if existing == "replace" else [])
        keys_M = now.info.next_key + np.arange(len(places), dtype=np.int64)
        now.vectors.add(keys_M, z_ME)
        # a column that only one of the two has is null in the other's rows
        table = pa.concat_tables([table, with_keys(entries, keys_M)], promote_options="default")
        if source not in now.info.sources:
            now.info.sources.append(source)
        return _write(folder, now.info, now.vectors, table, next_key=int(keys_M[-1]) + 1), len(places)


def delete(folder: Path, *, ids: Collection[str] = (), labels: Collection[str] = ()) -> tuple[Info, int]:
    """Delete the rows with these ids and all rows with these labels; returns what the index is now, and how
    many rows went. Raises UserError for an id or a label that no row has; then nothing is deleted.
    """
    folders.must_hold_index(folder)
    with folders.changing(folder):
        now = Snapshot.read_current(folder)
        unknown = [id for id in ids if id not in now.rows]
        if unknown:
            raise UserError(f"the index {folder} has no row with the id {unknown[0]!r}; nothing was deleted")
        gone = set(ids)
        for label in labels:
            of_label = now.rows.ids_of_label(label)
            if not of_label:
                raise UserError(
                    f"the index {folder} has no row with the label {label!r}; nothing was deleted"
                )
            gone.update(of_label)
        if not gone:
            return now.info, 0
        table = _without(now, gone)
        return _write(folder, now.info, now.vectors, table, next_key=now.info.next_key), len(gone)


def _without(now: Snapshot, ids: Collection[str]) -> pa.Table:
    """The rows less these, which are taken out of the vectors too."""
    table = now.rows.read_all()
    if not ids:
        return table
    keys_M = np.array(sorted(now.rows.key(id) for id in ids))
    now.vectors.remove(keys_M)
    return table.filter(pa.array(~np.isin(now.rows.keys, keys_M)))


def _check(z_ME: NDArray[np.float32], width: int) -> None:
    assert z_ME.ndim == 2 and z_ME.shape[1] == width, (z_ME.shape, width)
    bad = np.flatnonzero(~(np.abs(np.linalg.norm(z_ME, axis=1) - 1) < NORM_TOLERANCE))
    if bad.size:
        raise UserError(
            f"{bad.size} of {len(z_ME)} embeddings are not finite or not of unit length, "
            f"the first is that of picture {bad[0]}; look for a diverged checkpoint"
        )


def _write(folder: Path, info: Info, vectors: kinds.Vectors, table: pa.Table, *, next_key: int) -> Info:
    measured = tune(vectors)
    whole = info.model_copy(
        update={
            "size": vectors.size,
            "next_key": next_key,
            "effort": vectors.effort,
            "settings": vectors.settings(),
            "measured": measured,
        }
    )
    snapshot.write(folder, whole, vectors, table)
    return whole
