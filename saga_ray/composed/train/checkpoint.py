"""A stage's state between two steps: what trains, the optimizer, and the records of the steps so far.

At the stage's end the embedder is there too, its adapters merged.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from saga_ray.composed.embedder import Embedder
from saga_ray.train.checkpoint import RECORDS_FILE, TRAINING_FILE, restore_optimizer, unfinished
from saga_ray.train.records import StepRecord

EMBEDDER_FOLDER = "embedder"


@contextmanager
def checkpoint_folder(
    storage: Path,
    embedder: Embedder,
    optimizer: torch.optim.Optimizer,
    records: Sequence[StepRecord],
    *,
    ended: bool,
) -> Iterator[Path]:
    """An `unfinished` folder with the state after as many steps as there are records.

    `ended`: the adapters are merged, and the embedder is part of it.
    """
    with unfinished(storage) as folder:
        trained = list(embedder.trained())
        torch.save({"trained": trained, "optimizer": optimizer.state_dict()}, folder / TRAINING_FILE)
        (folder / RECORDS_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
        if ended:
            embedder.merge()
            embedder.save(folder / EMBEDDER_FOLDER)
        yield folder


def restore(folder: str | os.PathLike[str], embedder: Embedder, optimizer: torch.optim.Optimizer) -> None:
    """Put a checkpoint's state into an embedder that was adapted as it was then, and an optimizer."""
    state = torch.load(Path(folder) / TRAINING_FILE, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for parameter, value in zip(embedder.trained(), state["trained"], strict=True):
            parameter.copy_(value)
    restore_optimizer(optimizer, state["optimizer"])
