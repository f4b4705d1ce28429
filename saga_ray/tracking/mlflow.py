"""The only place that imports MLflow: one run for a command, a nested run for each of its arms.

Written to by the driver alone. Consumes settings, step records, results and folders. A store that stops
answering in mid-run costs what it does not take, never the training: step metrics wait until it answers
again, all else is tried again for a while.
"""

from __future__ import annotations

import logging
import os
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import mlflow
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from saga_ray.config.job import Job
from saga_ray.errors import Stopped, UserError
from saga_ray.tracking import pyfunc
from saga_ray.tracking.address import hide_password, without_password
from saga_ray.tracking.parameters import parameters

Value = TypeVar("Value")

logger = logging.getLogger(__name__)
for noisy in ("mlflow", "alembic"):
    logging.getLogger(noisy).setLevel(logging.ERROR)

# Two links an arm, printed by a store behind a server; a command says at its end where to look.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")

FLUSH_EVERY_S = 5.0
METRICS_A_REQUEST = 1000  # MLflow's own limits
PARAMS_A_REQUEST = 100
LONGEST_PARAM = 6000
LONGEST_TAG = 5000
PATIENCE_S, PAUSE_S = 120.0, 5.0
"""How long, and how often, what is no step metric is tried again."""
TEMPORARY = {"INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED"}
"""Error codes of a store that may answer later; those of a database or a network are the first."""
OF_EVERY_STEP = "seconds/step"
"""A metric that every step logs."""


class _Run:
    """One MLflow run, the parent or an arm's: metrics, tags and files."""

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self._client = mlflow.MlflowClient()
        self._waiting: list[Metric] = []
        self._flushed_at = time.monotonic()
        self._complained = False

    def log_metrics(self, values: Mapping[str, float], step: int = 0) -> None:
        """Metrics of one step; sent in batches every few seconds, the rest when the run ends."""
        now = int(time.time() * 1000)
        self._waiting += [
            Metric(metric_name(name), float(value), now, step) for name, value in values.items()
        ]
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S or len(self._waiting) >= METRICS_A_REQUEST:
            self.flush()

    def flush(self) -> None:
        """Send what waits. Where the store does not answer it goes on waiting, and a warning says so once."""
        self._flushed_at = time.monotonic()
        if not self._begun():
            return
        try:
            while self._waiting:
                self._client.log_batch(self.run_id, metrics=self._waiting[:METRICS_A_REQUEST])
                del self._waiting[:METRICS_A_REQUEST]
        except MlflowException as error:
            if not self._complained:
                logger.warning("MLflow does not take metrics (training goes on): %s", first_line(error))
            self._complained = True

    def _begun(self) -> bool:
        """Whether the store has this run."""
        return True

    def _patiently(self, what: str, work: Callable[[], Value]) -> Value | None:
        """What `work` gives. Where the store does not take it in `PATIENCE_S`, none, and a warning."""
        began = time.monotonic()
        while True:
            try:
                return work()
            except MlflowException as error:
                if error.error_code not in TEMPORARY or time.monotonic() - began > PATIENCE_S:
                    logger.warning("MLflow does not take %s (training goes on): %s", what, first_line(error))
                    return None
            time.sleep(PAUSE_S)

    def _log_params(self, settings: Job) -> None:
        """Every setting as ``section.field``; those that a resumed run has already are left as they are."""
        known = self._client.get_run(self.run_id).data.params
        values = parameters(settings)
        params = [Param(name, value[:LONGEST_PARAM]) for name, value in values.items() if name not in known]
        for start in range(0, len(params), PARAMS_A_REQUEST):
            self._client.log_batch(self.run_id, params=params[start : start + PARAMS_A_REQUEST])

    def tag(self, tags: Mapping[str, str]) -> None:
        """Facts about the run that are neither settings nor measures: the data set's hash, versions."""
        made = [RunTag(name, str(value)[:LONGEST_TAG]) for name, value in tags.items()]
        self._patiently("tags", lambda: self._client.log_batch(self.run_id, tags=made))

    def log_path(self, path: Path, name: str | None = None) -> None:
        """Keep a file, or a folder under `name`, as an artifact."""

        def log() -> None:
            if path.is_dir():
                self._client.log_artifacts(self.run_id, str(path), name or path.name)
            else:
                self._client.log_artifact(self.run_id, str(path), name)

        self._patiently(path.name, log)

    def _close(self, error: BaseException | None) -> None:
        """End the run as finished, as stopped, or as failed with the error's first line as a tag."""
        self.flush()
        if not self._begun():
            return
        stopped = isinstance(error, KeyboardInterrupt | Stopped)
        try:
            if error is not None and not stopped:
                self.tag({"saga.error": f"{type(error).__name__}: {first_line(error)}"})
            mlflow.end_run("FINISHED" if error is None else "KILLED" if stopped else "FAILED")
        except MlflowException as trouble:
            logger.warning("MLflow could not close run %s: %s", self.run_id, first_line(trouble))


class ArmRun(_Run):
    """An arm's nested run; a context that marks it finished or failed. Where the store does not answer, it
    begins when the store does.
    """

    def __init__(self, begin: Callable[[], str], settings: Job) -> None:
        """`begin` starts the run, or goes on with it, and gives its id."""
        super().__init__(run_id="")
        self._begin, self._settings, self._whole = begin, settings, False
        self.last_step = -1
        """Of the steps that the store had when this session began; -1: none."""
        self._patiently("the start of an arm's run", self._start)

    def _start(self) -> None:
        """As far as the store answers; what is done already is not done again."""
        self.run_id = self.run_id or self._begin()
        history = self._client.get_metric_history(self.run_id, OF_EVERY_STEP)
        self.last_step = max((metric.step for metric in history), default=-1)
        self._log_params(self._settings)
        self._whole = True

    def _begun(self) -> bool:
        if not self._whole:
            with suppress(MlflowException):
                self._start()
        return bool(self.run_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    def log_encoder(self, folder: Path, *, image_size: int, embedding_size: int) -> str | None:
        """Log an encoder's folder (configuration, safetensors) as a model with signature; returns its URI,
        none where the store does not take it.

        ``mlflow.pyfunc.load_model(uri).predict(images)`` takes uint8 pictures (B, image_size, image_size, 3)
        and gives float32 embeddings (B, embedding_size).
        """
        return self._log_model("encoder", pyfunc.encoder(folder, image_size, embedding_size))

    def log_embedder(self, folder: Path, *, embedding_size: int) -> str | None:
        """Log the folder of an embedder of composed retrieval; returns its URI, none where the store does not
        take it.

        ``mlflow.pyfunc.load_model(uri).predict(table)`` takes a pandas table with the columns ``image``
        (bytes) and ``text``, one of them or both, and gives float32 embeddings (B, embedding_size).
        """
        return self._log_model("embedder", pyfunc.embedder(folder, embedding_size))

    def _log_model(self, name: str, described: dict[str, Any]) -> str | None:
        def log() -> str:
            if not self._whole:
                self._start()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # asks for an example; the signature is exact
                return str(mlflow.pyfunc.log_model(name=name, **described).model_uri)

        return self._patiently(f"the {name}", log)


class Tracker(_Run):
    """The run of a command; a context that marks it finished or failed.

    with Tracker.start(settings, home, nodes=1) as tracker:
        with tracker.arm("saga", arm_settings) as arm:
            arm.log_metrics({"loss/metric": 0.4}, step=0)
    """

    def __init__(self, run_id: str, experiment_id: str, uri: str) -> None:
        super().__init__(run_id)
        self.uri, self._experiment_id = uri, experiment_id

    @classmethod
    def start(
        cls,
        settings: Job,
        home: Path,
        *,
        nodes: int,
        run_id: str | None = None,
        parent: str | None = None,
    ) -> Self:
        """Open the store, under `home` unless the settings name another, and start the run.

        `nodes`: alive nodes of the Ray cluster. `run_id`: a run to go on with instead. `parent`: the run of
        the sweep that this one is a trial of. Raises UserError where the store cannot be used.
        """
        uri = store_uri(settings, home)
        if uri.startswith("sqlite") and nodes > 1:
            raise UserError(
                f"tracking.uri: an SQLite store serves one node and this cluster has {nodes}; "
                "start an MLflow server and set tracking.uri=http://HOST:PORT"
            )
        home.mkdir(parents=True, exist_ok=True)
        try:
            mlflow.set_tracking_uri(uri)
            experiment_id = _experiment(
                settings.tracking.experiment, home if settings.tracking.uri is None else None
            )
            run = mlflow.start_run(
                run_id=run_id,
                run_name=None if run_id else settings.name,
                experiment_id=experiment_id,
                parent_run_id=None if run_id else parent,
                log_system_metrics=settings.tracking.system_metrics,
            )
        except UserError:
            raise
        except Exception as error:  # each store fails in its own way: the driver's, the network's, MLflow's
            why = hide_password(first_line(error), uri)
            raise UserError(
                f"tracking.uri: MLflow's store {without_password(uri)} cannot be used: {why}"
            ) from error
        tracker = cls(run.info.run_id, experiment_id, uri)
        tracker._patiently("settings", lambda: tracker._log_params(settings))
        return tracker

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(error)

    def arm(self, name: str, settings: Job) -> ArmRun:
        """Start an arm's nested run, or go on with the one it had before this run was resumed."""

        def begin() -> str:
            known = self._known(name)
            run = mlflow.start_run(
                run_id=known,
                run_name=None if known else name,
                experiment_id=self._experiment_id,
                nested=True,
                parent_run_id=self.run_id,
                tags=None if known else {"saga.arm": name},
                log_system_metrics=False,
            )
            return str(run.info.run_id)

        return ArmRun(begin, settings)

    def _known(self, arm: str) -> str | None:
        """The nested run of an arm, of this session or of one before."""
        found = self._client.search_runs(
            [self._experiment_id],
            f"tags.`mlflow.parentRunId` = '{self.run_id}' and tags.`saga.arm` = '{arm}'",
        )
        return str(found[0].info.run_id) if found else None

    def log_test(self, test: Mapping[str, Mapping[str, Any]]) -> None:
        """The numbers of a result's ``test``: ``test/ARM/MEASURE`` here, ``test/MEASURE`` in the arm."""
        for arm, measured in test.items():
            numbers = {name: value for name, value in measured.items() if isinstance(value, int | float)}
            self.log_metrics({f"test/{arm}/{name}": value for name, value in numbers.items()})
            own = self._patiently(f"the scores of {arm}", partial(self._known, arm))
            if own is not None:
                arm_run = _Run(own)
                arm_run.log_metrics({f"test/{name}": value for name, value in numbers.items()})
                arm_run.flush()
        self.flush()


def how_to_open(uri: str) -> str:
    """The command that shows a store's runs in a browser, or the server's address."""
    if uri.startswith("http"):
        return without_password(uri)
    return shlex.join([sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", without_password(uri)])


def store_uri(settings: Job, home: Path) -> str:
    """Where runs are kept: the setting, else an SQLite file under `home`."""
    return settings.tracking.uri or f"sqlite:///{home.resolve() / 'mlflow.db'}"


def _experiment(name: str, home: Path | None) -> str:
    """The experiment's id, made if need be; a store under `home` has its artifacts beside it."""
    client = mlflow.MlflowClient()
    found = client.get_experiment_by_name(name)
    if found is None:
        artifacts = None if home is None else (home.resolve() / "mlartifacts").as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another run was quicker
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise UserError(
            f"tracking.experiment: {name!r} was deleted in MLflow; restore it or choose another name"
        )
    return str(found.experiment_id)


def metric_name(name: str) -> str:
    """A name that MLflow allows: ``recall@1`` becomes ``recall_at_1``."""
    return name.replace("@", "_at_")


def first_line(error: BaseException) -> str:
    """What an exception says, in its first line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
