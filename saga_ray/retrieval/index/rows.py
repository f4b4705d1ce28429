"""What is known of each row besides its embedding: id, label, where its picture lies, metadata, thumbnail.

One Parquet file a snapshot. All but the thumbnails is held in memory; a thumbnail is read when it is asked
for, with the few hundred of its row group.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

FILE = "rows.parquet"
METADATA = "metadata."
"""Prefix of metadata columns, so that a user's column called `id` or `label` is none of ours."""
THUMBNAIL = "thumbnail"
GROUP = 256
"""Rows of a row group, about a megabyte of thumbnails."""
SCHEMA = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("image", pa.string()),
        pa.field(THUMBNAIL, pa.binary()),
    ]
)
"""Columns that are always there, in this order; `key` ascends and is the embedding's number."""


class Rows:
    """A snapshot's rows, to look things up in; never changes."""

    def __init__(self, file: Path) -> None:
        # opened once: an open file can still be read after its snapshot was superseded and deleted
        self._file = pq.ParquetFile(pa.OSFile(str(file)))
        self._one_reader = threading.Lock()
        names = [name for name in self._file.schema_arrow.names if name != THUMBNAIL]
        self._table = self._file.read(columns=names).combine_chunks()
        self.keys: NDArray[np.int64] = self._table["key"].to_numpy()
        self._place: dict[str, int] = {
            name: place for place, name in enumerate(self._table["id"].to_pylist())
        }

    def __len__(self) -> int:
        return len(self.keys)

    def __contains__(self, id: str) -> bool:
        return id in self._place

    def key(self, id: str) -> int:
        """The number of a row's embedding; KeyError where there is no such row."""
        return int(self.keys[self._place[id]])

    def ids_of_label(self, label: str) -> list[str]:
        """All rows with this label."""
        ids: list[str] = self._table["id"].filter(pc.equal(self._table["label"], label)).to_pylist()
        return ids

    def of_keys(self, keys_M: NDArray[np.int64]) -> list[dict[str, Any]]:
        """``id``, ``label``, ``image`` and ``metadata`` (what is known of it) of each of these rows."""
        places = np.searchsorted(self.keys, keys_M)
        assert (self.keys[places] == keys_M).all(), "embeddings and rows of the snapshot do not agree"
        records = self._table.take(pa.array(places)).to_pylist()
        return [_with_metadata(record) for record in records]

    def thumbnail(self, id: str) -> bytes | None:
        """A JPEG; none where the row has none. KeyError where there is no such row."""
        group, place = divmod(self._place[id], GROUP)
        with self._one_reader:
            thumbnails = self._file.read_row_group(group, columns=[THUMBNAIL])[THUMBNAIL]
        found: bytes | None = thumbnails[place].as_py()
        return found

    def read_all(self) -> pa.Table:
        """Every column, thumbnails too: what the next snapshot is made from."""
        with self._one_reader:
            return self._file.read()


def write(table: pa.Table, file: Path) -> None:
    """Store rows in the order of their keys."""
    assert table.schema.names[: len(SCHEMA)] == SCHEMA.names, table.schema
    assert (np.diff(table["key"].to_numpy()) > 0).all(), "keys do not ascend"
    pq.write_table(table, file, row_group_size=GROUP, compression="zstd")


def _with_metadata(record: dict[str, Any]) -> dict[str, Any]:
    metadata = {
        name.removeprefix(METADATA): value
        for name, value in record.items()
        if name.startswith(METADATA) and value not in (None, "")
    }
    return {"id": record["id"], "label": record["label"], "image": record["image"], "metadata": metadata}
