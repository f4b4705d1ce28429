"""A data set's pictures as rows of an index: ids, labels, metadata and small pictures to show."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from saga_ray.data.picture_column import PictureColumn
from saga_ray.data.table import ImageTable
from saga_ray.errors import UserError
from saga_ray.retrieval.index.rows import METADATA, SCHEMA

ID = "id"
"""Column of a user's table that names its rows; without it a picture's place in the data set does."""
THUMBNAIL_SIZE = 160
JPEG_QUALITY = 85


def ids_of(table: ImageTable) -> list[str]:
    """The rows' names in an index. Raises UserError where two have the same."""
    ids = table.attributes.get(ID) or table.where
    name, times = Counter(ids).most_common(1)[0]
    if times > 1 or "" in ids:
        what = f"{name!r} names {times} of them" if times > 1 else "one of them is empty"
        raise UserError(f"{table.name}: the pictures' ids must differ, but {what}; mend the column {ID!r}")
    return ids


def entries(table: ImageTable, rows: Sequence[int]) -> pa.Table:
    """The columns of `saga_ray.retrieval.index.rows` but for the key, for these rows of a table."""
    ids = ids_of(table)
    sources = [table.images.source(row) for row in rows]
    with ThreadPoolExecutor(
        max_workers=os.cpu_count()
    ) as pool:  # Pillow decodes without the interpreter lock
        thumbnails = list(pool.map(partial(thumbnail, table.images), rows))
    columns = [
        pa.array([ids[row] for row in rows], type=pa.string()),
        pa.array([table.classes[int(table.labels[row])] for row in rows], type=pa.string()),
        pa.array([source if isinstance(source, str) else None for source in sources], type=pa.string()),
        pa.array(thumbnails, type=pa.binary()),
    ]
    fields = [SCHEMA.field(number) for number in range(1, len(SCHEMA))]
    for name, values in table.attributes.items():
        if name != ID:
            columns.append(pa.array([values[row] for row in rows], type=pa.string()))
            fields.append(pa.field(METADATA + name, pa.string()))
    return pa.table(columns, schema=pa.schema(fields))


def with_keys(entries: pa.Table, keys_M: NDArray[np.int64]) -> pa.Table:
    """The entries as rows of an index."""
    return entries.add_column(0, SCHEMA.field("key"), pa.array(keys_M, type=pa.int64()))


def thumbnail(images: PictureColumn, row: int) -> bytes:
    """A whole picture as a JPEG of at most `THUMBNAIL_SIZE` pixels a side."""
    small = images.decode(row, THUMBNAIL_SIZE)
    small.thumbnail((THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    file = io.BytesIO()
    small.save(file, format="JPEG", quality=JPEG_QUALITY)
    return file.getvalue()
