"""The driver of composed retrieval: stage after stage on Ray Train, then the source's own queries.

Consumes settings; produces the run's folder (result, report, an embedder a stage) and its MLflow runs.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import ray

from saga_ray.composed.identity import embedding_size
from saga_ray.composed.query_embeddings import COMPOSED
from saga_ray.composed.result import RESULT, CirResult
from saga_ray.composed.train.checkpoint import EMBEDDER_FOLDER
from saga_ray.composed.train.prepare import Ready, prepare
from saga_ray.composed.train.result import CirTrainingResult, StageRecord, TrainedOn
from saga_ray.composed.train.scores import score
from saga_ray.composed.train.worker import StageTask
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.home import output_home
from saga_ray.data.stream import put_images
from saga_ray.models import supervisors
from saga_ray.retrieval.record import installed_versions
from saga_ray.tracking.mlflow import Tracker
from saga_ray.train.checkpoint import records_of
from saga_ray.train.cluster import alive_nodes, cluster, wait_for_resources
from saga_ray.train.folder import RunFolder
from saga_ray.train.launch import launch
from saga_ray.train.logbook import Logbook
from saga_ray.train.progress import Progress
from saga_ray.train.records import StepRecord
from saga_ray.train.trial import Trial

EVALUATION = "evaluation"
"""In a run's folder: the last embedder on the source's own queries, also among its MLflow artifacts."""


def run(
    settings: ComposedSettings, output: Path, *, resume: bool = False, trial: Trial | None = None
) -> CirTrainingResult:
    """Train both stages and score what each left; returns what ``result.json`` holds. A sweep's trial is not
    scored: it was looked at while it trained. Raises `UserError` for what the user can put right.
    """
    started = time.monotonic()
    output = RunFolder.check(output, resume=resume)
    stages = list(settings.trained)
    progress = Progress(stages)
    progress.say(f"loading captions and triplets ({settings.data.source})")
    ready = prepare(settings)
    with cluster(settings, progress.say):
        wait_for_resources(settings, None)
        with (
            Tracker.start(
                settings,
                output_home(output),
                nodes=alive_nodes(),
                run_id=RunFolder.mlflow_run(output),
                parent=trial.mlflow_parent if trial else None,
            ) as tracker,
            RunFolder.open(output, settings, resume=resume, began=started) as folder,
            progress,
        ):
            folder.note_mlflow_run(tracker.run_id)
            tracker.tag({"saga.data_hash": ready.data.hash, "saga.folder": str(folder.path)})
            trainer = StageTrainer(settings, ready, folder, tracker, progress, trial)
            for stage, before in zip(stages, [None, *stages], strict=False):
                if folder.finished(stage) is None:
                    trainer.train(stage, folder.model(before) if before else None)
            result = CirTrainingResult(
                name=settings.name,
                seed=settings.seed,
                stages={stage: StageRecord(**(folder.finished(stage) or {})) for stage in stages},
                scored={} if trial else _score(settings, ready, folder, stages, progress),
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
        trial: Trial | None,
    ) -> None:
        self.settings, self.folder, self.tracker, self.progress = settings, folder, tracker, progress
        self.trial, self.last = trial, list(settings.trained)[-1]
        self.data, self.images = ray.put(ready.data), put_images(ready.data.pictures)
        looked_at = ready.validation if settings.evaluation.validate_every else None
        self.validation = ray.put(looked_at) if looked_at else None

    def train(self, stage: str, start: Path | None) -> None:
        """Train a stage from the embedder in `start`, or from the supervisor, and keep what it leaves."""
        settings, trial, last = self.settings, self.trial, stage == self.last
        with self.tracker.arm(stage, settings) as log:
            logbook = Logbook(self.folder, stage, log, settings.train.checkpoint_every)
            self.progress.begin(stage, settings.stage(stage).steps, done=logbook.done)

            def on_record(record: StepRecord) -> None:
                logbook.take(record)
                self.progress.update(record)
                if trial:
                    trial.on_record(record, self.folder)

            checkpoint = launch(
                lambda actor: StageTask(
                    stage=stage,
                    settings=settings,
                    supervisor=supervisors.anywhere(settings.embedder.supervisor),
                    data=self.data,
                    images=self.images,
                    validation=self.validation if last else None,
                    start=start,
                    start_from=trial.start_from if trial and last else None,
                    log=actor,
                ),
                settings,
                self.folder.checkpoints,
                stage,
                on_record,
                trial.stop if trial else None,
            )
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
        last = stage == stages[-1]
        scored[stage] = score(
            folder.model(stage), ready.scored, ready.validation, settings, output if last else None
        )
        composed = scored[stage].measures[COMPOSED]
        progress.say(f"{stage}: R@1 {composed['recall@1']:.1%} of composed queries on unseen pictures")
    return scored
