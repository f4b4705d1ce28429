"""The driver of a sweep: trials on Ray Tune over what they share, then the winner's test.

Selection looks at the validation classes, or queries, alone; the winner, and whoever comes next, are scored
once on those of the test, with what their trials have trained.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")  # Tune's own tables; ours is in `watch`

from ray import tune
from rich.console import Console

from saga_ray.config.home import output_home
from saga_ray.config.points import points
from saga_ray.config.presets import to_toml
from saga_ray.config.searched import AnySettings, last_trained, searched
from saga_ray.config.settings import Settings
from saga_ray.config.sweep import SweepSettings, Values, corners, preset_settings, trial_settings
from saga_ray.errors import UserError
from saga_ray.files import write_text
from saga_ray.retrieval.record import installed_versions
from saga_ray.tracking.mlflow import store_uri
from saga_ray.tracking.sweep import SweepTracker, start_sweep
from saga_ray.train.cluster import alive_nodes, cluster
from saga_ray.train.folder import RunFolder
from saga_ray.tune import begun
from saga_ray.tune.embedders import SweptEmbedders
from saga_ray.tune.encoders import SweptEncoders
from saga_ray.tune.engines import TRIAL_CPUS
from saga_ray.tune.report import write_sweep_report
from saga_ray.tune.result import Status, SweepResult, TrialResult, ranking
from saga_ray.tune.search import param_space, scheduler, searcher
from saga_ray.tune.swept import Say, Swept
from saga_ray.tune.trial import TrialTask, TuneTrial, looks
from saga_ray.tune.watch import Watch, Watched

WINNER, TUNE = "winner.toml", "tune"


def sweep(settings: SweepSettings, output: Path, *, resume: bool = False) -> SweepResult:
    """Run every trial, choose, and test; returns what ``result.json`` holds, of a sweep that has ended too.
    Raises UserError for what the user can put right.
    """
    started = time.monotonic()
    output = _check(output, resume=resume)
    outermost = [trial_settings(settings, values) for values in corners(settings)]
    base, longest = outermost[0], max(last_trained(each)[1] for each in outermost)
    say = Console(soft_wrap=True, highlight=False, markup=False).print
    if resume:
        begun.require_same(output, settings, base)
        if (done := begun.ended(output)) is not None:
            say(f"{output} has ended before: nothing is left to do")
            return done
    base.ray.local_cpus *= settings.concurrency  # logical ones, which trials that wait hold too
    swept = _swept(settings, base, say)
    with (
        cluster(base, say, state_api=True),  # by which Ray Train gives back the workers of a trial that died
        _tracked(settings, base, output, resume=resume) as tracker,
        swept.trials(say) as trials_of,
    ):
        task = TrialTask(settings, trials_of, output, tracker.run_id, store_uri(base, output_home(output)))
        with Watch(settings, output, lambda values: _last(settings, values)[1]) as watch:
            interrupted = _search(settings, longest, task, watch, resume=resume)
        tracker.end_trials()
        trials = [_result(task, id, watched, interrupted=interrupted) for id, watched in watch.trials.items()]
        best = ranking(trials, settings.mode)
        result = SweepResult(
            name=settings.name,
            preset=settings.preset,
            metric=settings.metric,
            mode=settings.mode,
            interrupted=interrupted,
            trials=trials,
            best=best[0].id if best else None,
            test={},
            registered=None,
            data=swept.data(),
            seconds=time.monotonic() - started,
            versions=installed_versions(),
        )
        _write(settings, result, output, tracker)  # before the test, which may fail and be resumed
        if best and not interrupted:
            test = _test(task, swept, best[: 1 + settings.runners_up])
            registered = _register(settings, task, tracker, best[0], test)
            seconds = time.monotonic() - started
            result = result.model_copy(update={"test": test, "registered": registered, "seconds": seconds})
            _write(settings, result, output, tracker)
    return result


def _swept(settings: SweepSettings, base: AnySettings, say: Say) -> Swept:
    """All that the trials begin with, loaded and checked."""
    if isinstance(base, Settings):
        return SweptEncoders(settings, base, say)
    return SweptEmbedders(settings, base, say)


def _last(settings: SweepSettings, values: Values) -> tuple[str, int]:
    """The arm or stage of a trial with these values that is looked at, and its steps."""
    return last_trained(trial_settings(settings, values))


def _check(output: Path, *, resume: bool) -> Path:
    output = output.expanduser().resolve()
    if resume and not (output / begun.FILE_NAME).exists():
        raise UserError(f"{output} holds no sweep to resume: {begun.FILE_NAME} is missing")
    if not resume and output.exists() and (output.is_file() or any(output.iterdir())):
        raise UserError(
            f"the output folder {output} is in use: it is not empty; give another --output, "
            f"or --resume {output} to continue it"
        )
    return output


@contextmanager
def _tracked(
    settings: SweepSettings, base: AnySettings, output: Path, *, resume: bool
) -> Iterator[SweepTracker]:
    """The sweep's folder and its MLflow run."""
    run_id = begun.mlflow_run(output) if resume else None
    with start_sweep(base, settings, output_home(output), nodes=alive_nodes(), run_id=run_id) as tracker:
        output.mkdir(parents=True, exist_ok=True)
        begun.write(output, settings, base, tracker.run_id)
        yield tracker


def _search(settings: SweepSettings, longest: int, task: TrialTask, watch: Watch, *, resume: bool) -> bool:
    """Let Tune run the trials; returns whether it was interrupted."""
    for noisy in ("ray.tune", "ray.train"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL)  # what failed is said by the watch and the result
    trainable = tune.with_resources(tune.with_parameters(TuneTrial, task=task), {"CPU": TRIAL_CPUS})
    storage = task.folder / TUNE
    if resume and tune.Tuner.can_restore(str(storage)):
        tuner = tune.Tuner.restore(
            str(storage), trainable, param_space=param_space(settings), resume_unfinished=True
        )
    else:
        tuner = tune.Tuner(
            trainable,
            param_space=param_space(settings),
            tune_config=tune.TuneConfig(
                search_alg=searcher(settings),
                scheduler=scheduler(settings, longest),
                num_samples=1 if settings.known_beforehand else settings.trials,
                max_concurrent_trials=settings.concurrency if settings.searcher == "optuna" else None,
                time_budget_s=settings.minutes and settings.minutes * 60,
                trial_dirname_creator=lambda trial: str(trial.trial_id),
            ),
            run_config=tune.RunConfig(
                name=TUNE,
                storage_path=str(task.folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=settings.retries),
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[watch],
            ),
        )
    began = time.monotonic()
    tuner.fit()
    if settings.minutes and time.monotonic() - began >= 60 * settings.minutes:
        return False
    expected = len(points(settings)) if settings.searcher == "grid" else settings.trials
    return len(watch.trials) < expected or any(watched.state == "runs" for watched in watch.trials.values())


def _result(task: TrialTask, id: str, watched: Watched, *, interrupted: bool) -> TrialResult:
    """A trial, from what Tune has said of it and what lies in its folder."""
    folder = RunFolder(task.trial_folder(id))
    try:
        trained = list(trial_settings(task.sweep, watched.values).trained)
    except UserError as error:
        return TrialResult(
            id=id, values=watched.values, status="failed", history=[], seconds=0.0, error=str(error)
        )
    arm = trained[-1]
    history = [(look["step"], look[task.sweep.metric]) for look in looks(folder.steps(arm))]
    status: Status = (
        "finished"
        if folder.finished(arm)
        else "failed"
        if watched.state == "failed"
        else "stopped"
        if watched.state == "ended" or not interrupted
        else "unfinished"
    )
    return TrialResult(
        id=id,
        values=watched.values,
        status=status,
        history=history,
        seconds=float(sum(record["seconds/step"] for each in trained for record in folder.steps(each))),
        error=watched.error if status == "failed" else None,
    )


def _test(task: TrialTask, swept: Swept, chosen: list[TrialResult]) -> dict[str, dict[str, float]]:
    """Score what the chosen trials have trained on what is held out for test. Raises UserError."""
    models = {
        trial.id: RunFolder(task.trial_folder(trial.id)).model(_last(task.sweep, trial.values)[0])
        for trial in chosen
    }
    try:
        return {id: swept.test(model) for id, model in models.items()}
    except Exception as error:  # a night's trials are done: say how to keep them, whatever it was
        raise UserError(
            f"the trials are done, but the best could not be scored on the test "
            f"{searched(task.sweep.command).held_out}: {error}; mend that and go on with "
            f"--resume {task.folder}"
        ) from error


def _register(
    settings: SweepSettings,
    task: TrialTask,
    tracker: SweepTracker,
    best: TrialResult,
    test: dict[str, dict[str, float]],
) -> str:
    run_id = RunFolder.mlflow_run(task.trial_folder(best.id))
    assert run_id is not None, "a trial that has finished has an MLflow run"
    measures = {f"test/{name}": value for name, value in test[best.id].items()}
    tracker.log_best({f"validation/{settings.metric}": best.value or 0.0, **measures})
    arm, _ = _last(settings, best.values)
    return tracker.register(settings.name, run_id, arm, {"trial": best.id, **measures})


def _write(settings: SweepSettings, result: SweepResult, output: Path, tracker: SweepTracker) -> None:
    """Result, winner's preset and report, here and in MLflow."""
    tracker.log_path(result.write(output))
    if result.best is not None:
        winner = preset_settings(settings, result.trial(result.best).values)
        held_out = searched(settings.command).held_out
        write_text(
            output / WINNER,
            f"# The winner of the sweep {settings.name} over {settings.preset}: trial {result.best}, "
            f"{settings.metric} {result.trial(result.best).value:.4f} over the validation {held_out}.\n"
            + to_toml(winner),
        )
        tracker.log_path(output / WINNER)
    tracker.log_path(write_sweep_report(output / "report", settings, result).parent)
