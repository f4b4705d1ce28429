"""The driver: one run from settings to result, the loop over its arms.

Consumes settings; produces the run's folder (result, report, models) and its MLflow runs. The only process
that writes to MLflow.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray

from saga_ray.config.home import output_home
from saga_ray.config.settings import Settings
from saga_ray.data.stream import put_images
from saga_ray.models import supervisors
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.retrieval.evaluation import evaluate_embeddings
from saga_ray.rollout.pool import Engines, Pool, open_pool, running_pool
from saga_ray.tracking.mlflow import ArmRun, Tracker
from saga_ray.train.arms import Arm, arm_settings, execution_order, needs_rollouts
from saga_ray.train.checkpoint import ENCODER_FOLDER, records_of
from saga_ray.train.cluster import alive_nodes, cluster, wait_for_resources
from saga_ray.train.folder import SKIPPED, RunFolder
from saga_ray.train.gate import parity_gate
from saga_ray.train.launch import launch
from saga_ray.train.logbook import Logbook
from saga_ray.train.pages import write_run_report
from saga_ray.train.prepare import Ready, prepare
from saga_ray.train.progress import Progress
from saga_ray.train.records import StepRecord
from saga_ray.train.result import Result
from saga_ray.train.summary import summarise, training_outcome
from saga_ray.train.trial import Trial
from saga_ray.train.verdicts import probe_pairs
from saga_ray.train.worker import ArmTask

EXAMPLES = 5
"""Broken pictures that are named on the console."""


def run(
    settings: Settings,
    output: Path,
    *,
    resume: bool = False,
    trial: Trial | None = None,
    engines: Engines | None = None,
) -> Result:
    """Train and score every arm; returns what ``result.json`` holds. Raises `UserError` for what the user can
    put right.

    `engines`: rollout actors that outlive the run, as those that a sweep's trials share; none: its own.
    """
    started = time.monotonic()
    output = RunFolder.check(output, resume=resume)
    arms = execution_order(settings.arms)
    progress = Progress([arm.name for arm in arms if arm.trains])
    progress.say(f"loading pictures ({settings.data.source}) and supervisor ({settings.supervisor.path})")
    ready = prepare(settings)
    _say_what_differs_or_is_left_out(settings, ready, progress)
    with cluster(settings, progress.say):
        wait_for_resources(settings, settings.rollout if ready.rollouts else None)
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
            _pool(settings, ready, progress, engines) if ready.rollouts else nullcontext() as pool,
        ):
            folder.note_mlflow_run(tracker.run_id)
            folder.write_skipped(ready.table.skipped)
            tracker.tag({"saga.data_hash": ready.table.hash, "saga.folder": str(folder.path)})
            trainer = ArmTrainer(settings, ready, folder, tracker, pool, progress, trial)
            for arm in arms:
                if folder.finished(arm.name) is None:
                    trainer.train_and_score(arm)
            finished = {name: folder.finished(name) or {} for name in settings.arms}
            result = summarise(settings, ready.table, finished, folder.seconds)
            result.write(folder.path)
            write_run_report(folder, settings, ready.table, ready.supervisor.verdict_key, result)
            tracker.tag({f"version.{name}": version for name, version in result.versions.items()})
            tracker.log_test(result.model_dump(by_alias=True)["test"])
            tracker.log_path(folder.result)
            tracker.log_path(folder.report)
    return result


def _say_what_differs_or_is_left_out(settings: Settings, ready: Ready, progress: Progress) -> None:
    """How a public data set is not the official one, broken pictures by name, and a verdict score that cannot
    be had."""
    for difference in ready.table.differs:
        progress.say(f"{ready.table.name} differs: {difference}")
    skipped = ready.table.skipped
    for each in skipped[:EXAMPLES]:
        progress.say(f"left out: {each.where}: {each.why}")
    if len(skipped) > EXAMPLES:
        progress.say(f"left out: {len(skipped) - EXAMPLES} more; the run's folder lists all in {SKIPPED}")
    if ready.rollouts and settings.evaluation.verdict_pairs:
        validation = ready.table.part("validation")
        if not probe_pairs(validation.labels, settings.evaluation.verdict_pairs, settings.seed):
            progress.say(
                "the verdict is not scored during training: the validation part has no two classes, or none "
                "with two pictures"
            )


@contextmanager
def _pool(settings: Settings, ready: Ready, progress: Progress, engines: Engines | None) -> Iterator[Pool]:
    """Rollout actors behind the parity gate; `engines` are there already."""
    supervisor = ready.supervisor
    if engines:
        pooled: Any = closing(open_pool(engines, settings, supervisor.verdict_key))
    else:
        progress.say(f"starting {settings.rollout.actors} rollout actor(s) with {settings.rollout.engine}")
        pooled = running_pool(settings, supervisor.folder, supervisor.verdict_key)
    with pooled as pool:
        report = parity_gate(settings, ready.supervisor, ready.start, ready.table.part("train"), pool)
        progress.say(
            f"engine parity: {pool.engine_name} {pool.engine_version} and replay differ by "
            f"{report.mean:.1e} a token on average, {report.largest:.1e} at most, over {report.tokens} tokens"
        )
        yield pool
        stats = pool.stats()
        if stats.restarts or stats.asked_again:
            progress.say(
                f"rollout actors were restarted {stats.restarts} times, "
                f"{stats.asked_again} groups were asked for again"
            )


class ArmTrainer:
    """Trains arms one after the other with the same data, start and rollout actors."""

    def __init__(
        self,
        settings: Settings,
        ready: Ready,
        folder: RunFolder,
        tracker: Tracker,
        pool: Pool | None,
        progress: Progress,
        trial: Trial | None,
    ) -> None:
        self.settings, self.ready, self.folder = settings, ready, folder
        self.tracker, self.pool, self.progress, self.trial = tracker, pool, progress, trial
        train = ready.table.part("train")
        self.train_table, self.train_images = ray.put(train), put_images(train)
        self.probe_table = ray.put(ready.table.part("validation"))
        self.start_encoder = ray.put(ready.start)

    def train_and_score(self, arm: Arm) -> None:
        """Train the arm from the common start, embed the test classes with what came out, and keep both."""
        settings = arm_settings(self.settings, arm)
        with self.tracker.arm(arm.name, settings) as log:
            model = self._train(arm, settings, log) if arm.trains else self._save_start()
            encoder = Encoder.load(model)
            test = self.ready.table.part(settings.evaluation.part)
            z_ME, _ = embed(
                test,
                encoder,
                settings.evaluation,
                settings.data.image_size,
                gpus=settings.train.gpus_per_worker,
            )
            outcome: dict[str, Any] = evaluate_embeddings(
                z_ME, test.labels, seed=settings.seed, roles_M=test.roles
            )
            outcome |= training_outcome(
                self.folder.steps(arm.name), self.pool if needs_rollouts(settings) and arm.trains else None
            )
            self.folder.write_embeddings(arm.name, z_ME)  # a finished arm has all that the report reads
            self.folder.finish(arm.name, model, outcome)
            log.log_encoder(
                self.folder.model(arm.name),
                image_size=settings.data.image_size,
                embedding_size=encoder.pooler.embedding_size,
            )
        self.progress.say(
            f"{arm.name}: R@1 {outcome['recall@1']:.1%}, MAP@R {outcome['map@r']:.1%} on the unseen classes"
        )

    def _save_start(self) -> Path:
        model = self.folder.model("start")
        model.parent.mkdir(parents=True, exist_ok=True)
        self.ready.start.save(model)
        return model

    def _train(self, arm: Arm, settings: Settings, log: ArmRun) -> Path:
        """The arm's training under Ray Train; its records go to disk, MLflow and the progress bar as they
        come.
        """
        saga = self.folder.finished("saga")
        budget_s = float(saga["seconds"]) if arm.same_seconds_as_saga and saga else None
        batches = [record["micro_batches"] for record in self.folder.steps("saga")]
        logbook = Logbook(self.folder, arm.name, log, settings.train.checkpoint_every)
        self.progress.begin(arm.name, settings.train.steps if budget_s is None else None, done=logbook.done)

        def on_record(record: StepRecord) -> None:
            logbook.take(record)
            self.progress.update(record)
            if self.trial:
                self.trial.on_record(record, self.folder)

        checkpoint = launch(
            lambda actor: ArmTask(
                arm=arm.name,
                settings=settings,
                supervisor=supervisors.anywhere(settings.supervisor.path),
                train_table=self.train_table,
                train_images=self.train_images,
                probe_table=self.probe_table,
                start_encoder=self.start_encoder,
                client=self.pool.client() if self.pool and needs_rollouts(settings) else None,
                record=(batches or None) if arm.same_batches_as_saga or arm.same_seconds_as_saga else None,
                budget_s=budget_s,
                start_from=self.trial.start_from if self.trial else None,
                log=actor,
                dump_folder=self.folder.path / "dumps",
            ),
            settings,
            self.folder.checkpoints,
            arm.name,
            on_record,
            self.trial.stop if self.trial else None,
        )
        logbook.close(records_of(checkpoint))
        self.progress.end()
        return checkpoint / ENCODER_FOLDER
