"""The driver of composed retrieval: stage after stage on Ray Train, then the source's own queries.

Consumes settings; produces the run's folder (result, report, an embedder a stage) and its MLflow runs.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import ray

from saga_ray.composed.benchmarks import Benchmark
from saga_ray.composed.evaluation import evaluate
from saga_ray.composed.identity import embedding_size
from saga_ray.composed.query_embeddings import COMPOSED, IMAGE_AND_TEXT
from saga_ray.composed.result import RESULT, CirResult
from saga_ray.composed.train.checkpoint import EMBEDDER_FOLDER
from saga_ray.composed.train.prepare import Ready, prepare
from saga_ray.composed.train.result import CirTrainingResult, StageRecord, TrainedOn
from saga_ray.composed.train.worker import StageTask
from saga_ray.config.composed import STAGES, ComposedSettings
from saga_ray.config.home import output_home
from saga_ray.data.stream import put_images
from saga_ray.retrieval.record import installed_versions
from saga_ray.tracking.mlflow import Tracker
from saga_ray.train.checkpoint import records_of
from saga_ray.train.cluster import alive_nodes, cluster, wait_for_resources
from saga_ray.train.folder import RunFolder
from saga_ray.train.launch import launch
from saga_ray.train.logbook import Logbook
from saga_ray.train.progress import Progress
from saga_ray.train.records import StepRecord

EVALUATION = "evaluation"
TEXT_WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Of which the baseline image + text gets the best, by validation queries."""


def run(settings: ComposedSettings, output: Path, *, resume: bool = False) -> CirTrainingResult:
    """Train both stages and score what each left; returns what ``result.json`` holds. Raises `UserError` for
    what the user can put right.
    """
    started = time.monotonic()
    output = RunFolder.check(output, resume=resume)
    stages = [stage for stage in STAGES if settings.stage(stage).steps]
    progress = Progress(stages)
    progress.say(f"loading captions and triplets ({settings.data.source})")
    ready = prepare(settings)
    with cluster(settings, progress.say):
        wait_for_resources(settings, None)
        with (
            Tracker.start(
                settings, output_home(output), nodes=alive_nodes(), run_id=RunFolder.mlflow_run(output)
            ) as tracker,
            RunFolder.open(output, settings, resume=resume, began=started) as folder,
            progress,
        ):
            folder.note_mlflow_run(tracker.run_id)
            tracker.tag({"saga.data_hash": ready.data.hash, "saga.folder": str(folder.path)})
            trainer = StageTrainer(settings, ready, folder, tracker, progress)
            for stage, before in zip(stages, [None, *stages], strict=False):
                if folder.finished(stage) is None:
                    trainer.train(stage, folder.model(before) if before else None)
            result = CirTrainingResult(
                name=settings.name,
                seed=settings.seed,
                stages={stage: StageRecord(**(folder.finished(stage) or {})) for stage in stages},
                scored=_score(settings, ready, folder, stages, progress),
                data=TrainedOn(
                    source=settings.data.source,
                    note=ready.data.note,
                    hash=ready.data.hash,
                    pictures=len(ready.data.pictures.sources),
                    captions=len(ready.data.captioned),
                    triplets=len(ready.data.triplets),
                ),
                seconds=folder.seconds,
                versions=installed_versions(),
            )
            tracker.log_path(result.write(folder.path))
            tracker.log_test(
                {
                    stage: {
                        f"{way}/{name}": value
                        for way, own in scored.measures.items()
                        for name, value in own.items()
                    }
                    for stage, scored in result.scored.items()
                }
            )
            if result.scored:
                tracker.log_path(folder.path / EVALUATION)
    return result


class StageTrainer:
    """Trains stages one after the other on the same data."""

    def __init__(
        self,
        settings: ComposedSettings,
        ready: Ready,
        folder: RunFolder,
        tracker: Tracker,
        progress: Progress,
    ) -> None:
        self.settings, self.folder, self.tracker, self.progress = settings, folder, tracker, progress
        self.data, self.images = ray.put(ready.data), put_images(ready.data.pictures)

    def train(self, stage: str, start: Path | None) -> None:
        """Train a stage from the embedder in `start`, or from the supervisor, and keep what it leaves."""
        settings = self.settings
        with self.tracker.arm(stage, settings) as log:
            logbook = Logbook(self.folder, stage, log, settings.train.checkpoint_every)
            self.progress.begin(stage, settings.stage(stage).steps, done=logbook.done)

            def on_record(record: StepRecord) -> None:
                logbook.take(record)
                self.progress.update(record)

            def task(actor: Any) -> StageTask:
                return StageTask(stage, settings, self.data, self.images, start, actor)

            checkpoint = launch(task, settings, self.folder.checkpoints, stage, on_record)
            records = records_of(checkpoint)
            logbook.close(records)
            self.folder.finish(stage, checkpoint / EMBEDDER_FOLDER, stage_record(records).model_dump())
            model = self.folder.model(stage)
            log.log_embedder(model, embedding_size=embedding_size(model))
            self.progress.end()


def stage_record(records: list[StepRecord]) -> StageRecord:
    """How a stage went, from its step records."""
    losses = [record["loss/total"] for record in records]
    tenth = max(1, len(losses) // 10)
    return StageRecord(
        steps=len(records),
        seconds=sum(record["seconds/step"] for record in records),
        first_loss=statistics.mean(losses[:tenth]),
        last_loss=statistics.mean(losses[-tenth:]),
    )


def _score(
    settings: ComposedSettings, ready: Ready, folder: RunFolder, stages: list[str], progress: Progress
) -> dict[str, CirResult]:
    """The embedder of each stage on the source's own queries; the last one's with a report."""
    if ready.scored is None:
        progress.say(f"{ready.data.name} has no queries of its own to score: see `saga cir evaluate`")
        return {}
    scored = {}
    for stage in stages:
        output = folder.path / EVALUATION
        if stage == stages[-1] and (output / RESULT).is_file():  # all of it is there, or nothing
            scored[stage] = CirResult.model_validate_json((output / RESULT).read_text(encoding="utf-8"))
            continue
        model = folder.model(stage)
        weight = _text_weight(settings, model, ready.validation)
        scored[stage] = evaluate(
            model,
            ready.scored,
            output=output if stage == stages[-1] else None,
            text_weight=weight,
            settings=settings.evaluation,
            gpus=settings.train.gpus_per_worker,
            seed=settings.seed,
        )
        composed = scored[stage].measures[COMPOSED]
        progress.say(f"{stage}: R@1 {composed['recall@1']:.1%} of composed queries on unseen pictures")
    return scored


def _text_weight(settings: ComposedSettings, model: Path, validation: Benchmark | None) -> float:
    """The text's share with which the sum of image and text finds most on validation queries; an even one
    where there are none."""
    if validation is None:
        return 0.5

    def found(weight: float) -> float:
        measured = evaluate(model, validation, text_weight=weight, settings=settings.evaluation)
        return measured.measures[IMAGE_AND_TEXT]["recall@1"]

    return max(TEXT_WEIGHTS, key=found)
