"""The loop of one worker of a stage: a batch, a step, a record, now and then a look at validation queries
and a checkpoint.

Runs inside Ray Train, one worker a process. Consumes the stage's plan in order; waits for the data stream and
the other workers, each with a limit; produces records for the driver, checkpoints, and at the end the
embedder with its adapters merged.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import torch
from ray.train.torch import get_device

from saga_ray.composed.benchmarks import Benchmark
from saga_ray.composed.embedder import Embedder
from saga_ray.composed.examples import Captioned, TrainingData, Triplet
from saga_ray.composed.plan import PlannedStageBatch, StageBatch, StagePlan
from saga_ray.composed.step import StageStep
from saga_ray.composed.train.checkpoint import checkpoint_folder, restore
from saga_ray.composed.train.scores import look
from saga_ray.composed.train.start import start_embedder
from saga_ray.config.composed import AlignSettings, ComposedSettings, InstructSettings
from saga_ray.config.settings import DataSettings
from saga_ray.data.seeds import generator
from saga_ray.data.stream import Images, Stream
from saga_ray.train.checkpoint import arm_storage, records_of, report
from saga_ray.train.records import StepRecord
from saga_ray.train.schedule import rate_factor, set_rates, step_progress
from saga_ray.train.world import World


@dataclass(frozen=True)
class StageTask:
    """What a worker needs to train one stage; travels by pickle."""

    stage: str
    settings: ComposedSettings
    supervisor: str
    """See `supervisors.anywhere`: the settings' path may be relative to the driver's folder."""
    data: ray.ObjectRef[TrainingData]
    images: Images
    """The data's pictures, for the data tasks."""
    validation: ray.ObjectRef[Benchmark] | None
    """Queries that are looked at every so many steps; none: they are not."""
    start: Path | None
    """Folder of the embedder that the stage before has left, on storage that all nodes share; none: the
    supervisor as it is."""
    start_from: Path | None
    """Another run's checkpoint of this stage to go on from, where the stage has none of its own."""
    log: Any
    """Handle of the actor that carries records to the driver."""

    def run(self) -> None:
        """See `saga_ray.train.launch.Task`."""
        train_stage(self)


def train_stage(task: StageTask) -> None:
    """What a worker of Ray Train does."""
    settings, stage = task.settings, task.settings.stage(task.stage)
    torch.set_num_threads(settings.train.threads_per_worker)
    world = World.current()
    embedder = start_embedder(settings, task.start, task.supervisor).to(
        get_device() if settings.train.gpus_per_worker else torch.device("cpu")
    )
    lora = settings.embedder
    embedder.adapt(rank=lora.lora_rank, alpha=lora.lora_alpha, dropout=lora.lora_dropout, seed=settings.seed)
    optimizer = build_optimizer(embedder, stage)
    records: list[StepRecord] = []
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None and task.start_from is not None:
        checkpoint = ray.train.Checkpoint.from_directory(task.start_from)
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            restore(folder, embedder, optimizer)
            records = records_of(folder)
    embedder.train()
    validation = ray.get(task.validation) if task.validation and world.rank == 0 else None
    step_runner = StageStep(embedder, settings, world)
    batches = _batches(task, embedder, world, start=len(records))
    told: ray.ObjectRef[bool] | None = None
    go_on = True

    for step in range(len(records), stage.steps):
        started = time.perf_counter()
        progress = step_progress(step, stage.steps)
        factor = rate_factor(progress, stage.warmup_share)
        set_rates(optimizer, factor)
        # each step draws its own dropout, whichever worker and session it runs in
        dropout = generator(settings.seed, "dropout", task.stage, step, world.rank)
        torch.manual_seed(int(dropout.integers(2**63)))
        losses = step_runner.run(next(batches), stage)
        optimizer.step()

        record: StepRecord = {"step": step, "progress": progress, "rate": factor, **losses}
        record["seconds/step"] = time.perf_counter() - started
        ended = step + 1 == stage.steps
        if validation and ((step + 1) % settings.evaluation.validate_every == 0 or ended):
            record.update(look(embedder, validation, settings))
        records.append(record)
        if world.rank == 0:
            if told is not None:
                go_on = ray.get(told)  # fails when the driver has given up, and so ends this worker
            told = task.log.append.remote(record)
        if ended or (step + 1) % settings.train.checkpoint_every == 0:
            _report(embedder, optimizer, records, world, ended=ended)
        if not bool(world.broadcast_number(go_on)):  # rank 0 alone is told
            return


def build_optimizer(embedder: Embedder, stage: AlignSettings | InstructSettings) -> torch.optim.AdamW:
    """AdamW over what trains; biases and norms are not decayed."""
    trained = list(embedder.trained())
    groups = [
        {"params": [each for each in trained if each.ndim > 1], "weight_decay": stage.weight_decay},
        {"params": [each for each in trained if each.ndim <= 1], "weight_decay": 0.0},
    ]
    used = [{**group, "lr": stage.rate, "base": stage.rate} for group in groups if group["params"]]
    return torch.optim.AdamW(used)


def plan_of(data: TrainingData, stage: str, settings: ComposedSettings) -> StagePlan[Any]:
    """The batches of a stage."""
    examples: Any = data.captioned if stage == "align" else data.triplets
    images = stage == "instruct" and settings.instruct.image_weight > 0
    return StagePlan(examples, stage, settings.stage(stage).batch, settings.seed, images)


def _batches(
    task: StageTask, embedder: Embedder, world: World, start: int
) -> Iterator[StageBatch[Captioned] | StageBatch[Triplet]]:
    plan = plan_of(ray.get(task.data), task.stage, task.settings)

    def planned(id: int) -> PlannedStageBatch[Any]:
        return plan.planned(id, world.rank, world.size)

    pictures = DataSettings(
        image_size=embedder.image_size,
        crop_scale=1.0,
        flip=False,
        decode_tasks=task.settings.data.decode_tasks,
    )
    ids = range(start, task.settings.stage(task.stage).steps)
    return Stream.of(planned, task.images, pictures, task.settings.seed, rank=world.rank, ids=ids)


def _report(
    embedder: Embedder,
    optimizer: torch.optim.Optimizer,
    records: list[StepRecord],
    world: World,
    *,
    ended: bool,
) -> None:
    """Hand a checkpoint to Ray Train; every worker must call it, rank 0 alone brings the files."""
    metrics = {"step": len(records)}
    if world.rank:
        ray.train.report(metrics)
        return
    with checkpoint_folder(arm_storage(), embedder, optimizer, records, ended=ended) as folder:
        report(metrics, folder)
