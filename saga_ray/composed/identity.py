"""Which folder holds the embedder that a person means, and which embedder that is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from saga_ray.composed.embedder import CONFIG, HEAD, MODEL
from saga_ray.config.composed import STAGES
from saga_ray.config.home import find_run
from saga_ray.errors import UserError
from saga_ray.train.folder import RunFolder


def find_embedder(name: str) -> Path:
    """The folder of an embedder: ``name`` is such a folder, or a run's folder or name, of which the last
    stage's is meant. Raises UserError."""
    folder = find_run(name)
    for place in (folder, *(RunFolder(folder).model(stage) for stage in reversed(STAGES))):
        if (place / CONFIG).is_file():
            return place
    raise UserError(
        f"{folder} holds no embedder of composed retrieval: it is neither one nor the folder of a "
        "`saga cir train` whose first stage has ended"
    )


def embedding_size(folder: Path) -> int:
    """How many numbers an embedding has of the embedder in a folder."""
    return int(json.loads((folder / CONFIG).read_text(encoding="utf-8"))["size"])


def embedder_hash(folder: Path) -> str:
    """SHA-256 over all that `Embedder.load` may read of a folder: configuration, head, and the model's files.

    Raises UserError where the folder holds no embedder.
    """
    if not (folder / CONFIG).is_file():
        raise UserError(f"{folder} holds no embedder of composed retrieval: {CONFIG} is missing")
    files = [folder / CONFIG, folder / HEAD, *sorted((folder / MODEL).rglob("*"))]
    total = hashlib.sha256()
    for file in files:
        if file.is_file():
            # name and digest of each, so that bytes cannot move from one file to the other unnoticed
            total.update(repr(file.relative_to(folder).as_posix()).encode())
            with file.open("rb") as content:
                total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()
