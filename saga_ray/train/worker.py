"""The loop of one training worker: a step, a record, now and then a verdict score and a checkpoint.

Runs inside Ray Train, one worker a process. Consumes micro-batches of the plan in order; waits for the data
stream, the rollout client and the other workers, each with a limit; produces records for the driver and
checkpoints in the run's storage.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
import ray.train
import torch
from ray.train.torch import get_device

from saga_ray.config.settings import Settings
from saga_ray.data.batches import StreamedBatch
from saga_ray.data.plan import plan_for
from saga_ray.data.stream import Images, stream
from saga_ray.data.table import ImageTable
from saga_ray.losses import metric as metric_losses
from saga_ray.models import adapters, supervisors
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.retrieval.evaluation import retrieval_measures
from saga_ray.rollout.client import RolloutClient
from saga_ray.train.arms import needs_rollouts
from saga_ray.train.checkpoint import (
    Position,
    arm_storage,
    checkpoint_folder,
    records_of,
    report,
    restore,
    training_state,
)
from saga_ray.train.records import StepRecord, sample_record, step_record
from saga_ray.train.schedule import build_optimizer, rate_factor, set_rates, step_progress
from saga_ray.train.shards import gathered, shard_language_model, shard_tower
from saga_ray.train.step import NonFiniteLoss, Step
from saga_ray.train.teaching import Teacher
from saga_ray.train.verdicts import VerdictProbe
from saga_ray.train.world import World


@dataclass(frozen=True)
class ArmTask:
    """What a worker needs to train one arm; travels by pickle."""

    arm: str
    settings: Settings
    supervisor: str
    """See `supervisors.anywhere`: the settings' path may be relative to the driver's folder."""
    train_table: ray.ObjectRef[ImageTable]
    train_images: Images
    """The train table's picture column, for the data tasks."""
    probe_table: ray.ObjectRef[ImageTable]
    start_encoder: ray.ObjectRef[Encoder]
    client: RolloutClient | None
    record: list[list[int]] | None
    """Micro-batches of each step of the arm whose batches are repeated; none: taken from the plan as needed.
    """
    budget_s: float | None
    """Seconds of steps to spend in place of a number of steps (equal compute)."""
    start_from: Path | None
    """Another run's checkpoint to go on from, where the arm has none of its own."""
    log: Any
    """Handle of the actor that carries records to the driver."""
    dump_folder: Path

    def run(self) -> None:
        """See `saga_ray.train.launch.Task`."""
        train_arm(self)


def train_arm(task: ArmTask) -> None:
    """What a worker of Ray Train does."""
    settings = task.settings
    torch.set_num_threads(settings.train.threads_per_worker)
    world = World.current()
    device = get_device() if settings.train.gpus_per_worker else torch.device("cpu")
    table = ray.get(task.train_table)
    encoder = ray.get(task.start_encoder)
    if settings.train.shards_tower:
        shard_tower(encoder.tower, world, device)
    encoder = encoder.to(device)
    if settings.encoder.lora_rank is not None:
        rank, alpha = settings.encoder.lora_rank, settings.encoder.lora_alpha
        adapters.adapt(encoder.tower, rank=rank, alpha=alpha, seed=settings.seed)
    metric_loss = metric_losses.build(
        settings.metric.loss,
        classes=len(table.classes),
        width=encoder.pooler.embedding_size,
        seed=settings.seed,
        options=settings.metric.options,
    ).to(device)
    optimizer = build_optimizer(encoder, metric_loss, settings.optimizer)
    checkpoint = ray.train.get_checkpoint()
    position = Position()
    records: list[StepRecord] = []
    if checkpoint is None and task.start_from is not None:
        checkpoint = ray.train.Checkpoint.from_directory(task.start_from)
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            position = restore(folder, encoder, metric_loss, optimizer)
            records = records_of(folder)
    teacher = probe = None
    together = settings.train.shard != "nothing"
    scores = world.rank == 0 or together  # rank 0's are kept, but weights in parts need all workers
    if needs_rollouts(settings):
        supervisor = supervisors.load(task.supervisor, settings.supervisor.precision)
        if settings.train.shards_language_model:
            shard_language_model(supervisor, world, device)
        supervisor = supervisor.to(device)
        teacher = Teacher(supervisor, settings)
        if scores and settings.evaluation.verdict_pairs:
            agreed = world.of_first if together else None
            probe = VerdictProbe.of(supervisor, ray.get(task.probe_table), settings, agreed)
    validation = _validation(task) if scores else None
    step_runner = Step(encoder, metric_loss, teacher, task.client, settings, world, device)
    batches = _batches(task, table, world, position)
    told: ray.ObjectRef[bool] | None = None
    go_on = True

    while go_on and (progress := _progress(task, position, world)) < 1.0:
        started = time.perf_counter()
        consumed: list[StreamedBatch] = []

        def next_batch(consumed: list[StreamedBatch] = consumed) -> StreamedBatch:
            consumed.append(next(batches))
            return consumed[-1]

        try:
            result = step_runner.run(position.step, next_batch, _rounds(task, position.step))
        except NonFiniteLoss as error:
            _dump(task, consumed, encoder, error)
            raise
        factor = rate_factor(progress, settings.optimizer.warmup_share)
        set_rates(optimizer, factor)
        optimizer.step()
        position.step += 1
        position.next_micro_batch = max(position.next_micro_batch, result.micro_batches[-1] + 1)
        position.seconds += time.perf_counter() - started

        ended = _progress(task, position, world) >= 1.0
        record: StepRecord = step_record(result, progress, factor, time.perf_counter() - started)
        if probe and (result.step % settings.evaluation.verdict_every == 0 or ended):
            record["verdict_accuracy"] = probe.accuracy(encoder)
        if validation and ((result.step + 1) % settings.evaluation.validate_every == 0 or ended):
            record.update(_validate(encoder, validation, settings))
        if world.rank == 0:
            if teacher and result.sample and result.step % settings.report.rollouts_every == 0:
                record["sample"] = sample_record(result.sample)
            records.append(record)
            if told is not None:
                go_on = ray.get(told)  # fails when the driver has given up, and so ends this worker
            told = task.log.append.remote(record)
        if ended or position.step % settings.train.checkpoint_every == 0:
            _report(encoder, metric_loss, optimizer, position, records, world)
        go_on = bool(world.broadcast_number(go_on))  # rank 0 alone is told


def _progress(task: ArmTask, position: Position, world: World) -> float:
    """Share of the arm that is done: of its steps, or of its seconds."""
    if task.budget_s is not None:
        return min(1.0, world.broadcast_number(position.seconds) / task.budget_s)
    steps = task.settings.train.steps
    return 1.0 if position.step >= steps else step_progress(position.step, steps)


def _rounds(task: ArmTask, step: int) -> int | None:
    return len(task.record[step % len(task.record)]) if task.record else None


def _validation(task: ArmTask) -> ImageTable | None:
    """The validation classes, where they are to be scored and can be."""
    if not task.settings.evaluation.validate_every:
        return None
    table = ray.get(task.probe_table)
    return table if np.any(np.bincount(table.labels) > 1) else None


def _validate(encoder: Encoder, table: ImageTable, settings: Settings) -> dict[str, float]:
    """Retrieval over the validation classes with the encoder as it is now."""
    z_ME, _ = embed(table, encoder, settings.evaluation, settings.data.image_size, local=True)
    measures = retrieval_measures(z_ME, table.labels, seed=settings.seed)
    return {f"validation/{name}": measures[name] for name in ("recall@1", "map@r")}


def _batches(task: ArmTask, table: ImageTable, world: World, position: Position) -> Iterator[StreamedBatch]:
    """The micro-batches still to be consumed: the recorded ones, or the plan's from where it stands."""
    settings = task.settings
    plan = plan_for(table, settings.data, settings.seed)
    ids: Iterable[int] | None = None
    if task.record and task.budget_s is None:
        ids = [micro_batch for step in task.record[position.step :] for micro_batch in step]
    return stream(
        task.train_images,
        plan,
        settings.data,
        settings.seed,
        rank=world.rank,
        world=world.size,
        ids=ids,
        start=position.next_micro_batch,
    )


def _report(
    encoder: Encoder,
    metric_loss: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    position: Position,
    records: list[StepRecord],
    world: World,
) -> None:
    """Hand a checkpoint to Ray Train; every worker must call it, rank 0 alone brings the files."""
    metrics = {"step": position.step, "seconds": position.seconds}
    state = training_state(encoder, metric_loss, optimizer, keep=world.rank == 0)
    if world.rank:
        ray.train.report(metrics)
        return
    with checkpoint_folder(arm_storage(), encoder, state, position, records) as folder:
        report(metrics, folder)


def _dump(task: ArmTask, consumed: list[StreamedBatch], encoder: Encoder, error: NonFiniteLoss) -> None:
    """Keep what made a loss non-finite; the last checkpoint stays as it was. All workers find it so together,
    and so can gather weights."""
    rank = World.current().rank
    task.dump_folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"error": str(error), "batches": consumed, "encoder": gathered(encoder.state_dict(), keep=True)},
        task.dump_folder / f"non-finite-{task.arm}-worker{rank}.pt",
    )
