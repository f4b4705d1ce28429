"""One state of an index: what is in a snapshot's folder, read and written as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, ValidationError

from saga_ray.errors import UserError
from saga_ray.retrieval.index import folder as folders
from saga_ray.retrieval.index import kinds, rows
from saga_ray.retrieval.index.rows import Rows

INFO = "index.json"
FORMAT = 1


class Measured(BaseModel):
    """How an approximate index compares with an exact search over the same rows."""

    model_config = ConfigDict(extra="forbid")

    recall_at_10: float
    """Share of the true ten nearest rows that a search finds; the query itself is left out."""
    queries: int
    """Rows of the index that queried it."""
    size: int
    """Rows at the time."""
    query_ms: float
    flat_query_ms: float
    """Milliseconds for one query (median), on the machine that measured; by exact search beside it."""


class Info(BaseModel):
    """What ``index.json`` says."""

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    kind: str
    size: int
    width: int
    encoder_hash: str
    """Of the model, an encoder or another one."""
    model: str
    """Folder of the model when the index was built; it may have moved since."""
    image_size: int
    sources: list[str]
    """Data that was put in, oldest first."""
    next_key: int
    effort: int | None
    settings: dict[str, Any] = {}
    measured: Measured | None = None
    """None for an exact index."""


class Snapshot:
    """An index as it was at one time, in memory."""

    def __init__(self, state: folders.State, info: Info, vectors: kinds.Vectors, rows: Rows) -> None:
        self.state, self.info, self.vectors, self.rows = state, info, vectors, rows

    @classmethod
    def read(cls, folder: Path, state: folders.State) -> Snapshot:
        """Raises FileNotFoundError where it was superseded and deleted meanwhile, UserError if damaged."""
        place = folders.path_of(folder, state.number)
        try:
            info = Info.model_validate_json((place / INFO).read_bytes())
            vectors = kinds.load(info.kind, place)
            vectors.effort = info.effort
            own_rows = Rows(place / rows.FILE)
        except (ValidationError, pa.ArrowInvalid, RuntimeError, OSError) as error:
            # FAISS says everything by RuntimeError, a missing file too
            if not place.is_dir():
                raise FileNotFoundError(place) from error
            why = (str(error).splitlines() or [type(error).__name__])[0]
            raise UserError(f"the index {folder} is damaged ({why}); build it anew") from error
        if not info.size == vectors.size == len(own_rows):
            raise UserError(f"the index {folder} is damaged: its parts differ in size; build it anew")
        return cls(state, info, vectors, own_rows)

    @classmethod
    def read_current(cls, folder: Path) -> Snapshot:
        """The newest; one that is superseded while it is being opened is tried again.

        Raises UserError where the folder holds no index.
        """
        while True:
            state = folders.must_hold_index(folder)
            try:
                return cls.read(folder, state)
            except FileNotFoundError as error:
                if folders.state(folder) == state:
                    raise UserError(
                        f"the index {folder} lacks snapshot {state.number}; build it anew"
                    ) from error


def write(folder: Path, info: Info, vectors: kinds.Vectors, table: pa.Table) -> None:
    """Make this the current snapshot of an index; to be called inside `folders.changing`."""
    assert info.size == vectors.size == len(table), (info.size, vectors.size, len(table))
    with folders.new_snapshot(folder) as place:
        vectors.save(place)
        rows.write(table, place / rows.FILE)
        (place / INFO).write_text(info.model_dump_json(indent=1) + "\n")
