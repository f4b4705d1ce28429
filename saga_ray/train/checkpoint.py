"""Everything that a worker needs to go on as if nothing had happened: weights, optimizer, proxies, where
the plan stands, and the records of the steps so far (the driver may have died before it read the last ones).

Nothing else has state: plan, augmentation, completions and controls are all seeded by (seed, step or epoch,
index).
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from torch import nn

from saga_ray.errors import UserError
from saga_ray.models import adapters
from saga_ray.models.encoder import Encoder
from saga_ray.train.records import StepRecord
from saga_ray.train.shards import gathered, is_shard, shared_out, shared_out_optimizer

TRAINING_FILE = "training.pt"
ENCODER_FOLDER = "encoder"
RECORDS_FILE = "steps.jsonl"
UNFINISHED = "unfinished"
"""In an arm's storage, beside Ray Train's checkpoints: the next one while it is written."""
OWN = ("base", "weight_decay", "betas")
"""What of an optimizer's group the settings say."""


@dataclass
class Position:
    """Where a run stands between two steps."""

    step: int = 0
    """The next step."""
    next_micro_batch: int = 0
    """The first micro-batch of the plan that was not consumed."""
    seconds: float = 0.0
    """Spent in steps so far."""


def training_state(
    encoder: Encoder, metric_loss: nn.Module, optimizer: torch.optim.Optimizer, *, keep: bool = True
) -> dict[str, Any]:
    """All that changes while training, whole. Where weights are shared out among the workers every one of
    them must ask for it, and those that do not ``keep`` it get nothing of them."""
    if not keep and not any(map(is_shard, encoder.parameters())):
        return {}
    state = {
        "encoder": adapters.merged(encoder),
        "adapters": adapters.adapters_of(encoder),
        "metric_loss": metric_loss.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    return {name: gathered(part, keep=keep) for name, part in state.items()}


def arm_storage() -> Path:
    """Ray Train's folder of the arm, in a worker; a run's end takes all of it away."""
    return Path(ray.train.get_context().get_storage().experiment_fs_path)


@contextmanager
def unfinished(storage: Path) -> Iterator[Path]:
    """An empty folder in an arm's storage, gone when the block ends. What a worker that was killed has left
    there makes room for it.
    """
    if not storage.is_dir():
        raise UserError(
            f"{storage} is not there on {socket.gethostname()}: "
            "give an --output on storage that all nodes of the Ray cluster share"
        )
    folder = storage / UNFINISHED
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(metrics: dict[str, Any], folder: Path) -> None:
    """Make an `unfinished` folder Ray Train's newest checkpoint. It is renamed, neither copied nor ever there
    in part.
    """

    def rename(checkpoint: ray.train.Checkpoint, name: str) -> ray.train.Checkpoint:
        return ray.train.Checkpoint.from_directory(folder.rename(folder.with_name(name)))

    checkpoint = ray.train.Checkpoint.from_directory(folder)
    ray.train.report(metrics, checkpoint=checkpoint, checkpoint_upload_fn=rename)


@contextmanager
def checkpoint_folder(
    storage: Path,
    encoder: Encoder,
    state: dict[str, Any],
    position: Position,
    records: Sequence[StepRecord],
) -> Iterator[Path]:
    """An `unfinished` folder with the whole `training_state`, so hand it over inside."""
    with unfinished(storage) as folder:
        encoder.save(folder / ENCODER_FOLDER, state["encoder"])
        rest = {name: part for name, part in state.items() if name != "encoder"}
        torch.save({**rest, "position": vars(position)}, folder / TRAINING_FILE)
        (folder / RECORDS_FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
        yield folder


def restore(
    folder: str | os.PathLike[str], encoder: Encoder, metric_loss: nn.Module, optimizer: torch.optim.Optimizer
) -> Position:
    """Put a checkpoint's state into the given parts, shared out as they are; returns where to go on."""
    state = torch.load(Path(folder) / TRAINING_FILE, map_location="cpu", weights_only=True)
    stored = Encoder.load(Path(folder) / ENCODER_FOLDER).state_dict()
    adapters.restore(encoder, shared_out(stored, encoder.state_dict()), state["adapters"])
    metric_loss.load_state_dict(state["metric_loss"])
    restore_optimizer(optimizer, shared_out_optimizer(state["optimizer"], optimizer))
    return Position(**state["position"])


def restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a state into an optimizer whose rates and decay stay its own: the settings may have changed."""
    own = [{name: group[name] for name in OWN} for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, values in zip(optimizer.param_groups, own, strict=True):
        group.update(values)


def records_of(folder: str | os.PathLike[str]) -> list[StepRecord]:
    """The records of all steps up to a checkpoint, in order."""
    return [json.loads(line) for line in (Path(folder) / RECORDS_FILE).read_text().splitlines()]
