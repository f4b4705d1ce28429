"""Language models in Ray actors, one each, that are given batches as they get free."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayActorError, RayTaskError

from saga_ray.composed.writing.edits import Question
from saga_ray.composed.writing.gguf import unpacked
from saga_ray.composed.writing.job import Answers, Ask, Batch
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.train.cluster import cluster

log = logging.getLogger(__name__)

START_S, ANSWER_S = 1800.0, 1800.0
"""Longest waits: for the next model to be loaded, then for the next batch to be answered."""
SAY_EVERY_S = 30.0
AHEAD = 2
"""Batches that an actor is given at the same time: the second waits there, so that it is never idle."""


class Model(Protocol):
    """What an actor holds."""

    def answer(self, questions: list[Question]) -> list[str | None]:
        """An answer each."""
        ...


class _Writer:
    """The actor. Out of its constructor an error would come wrapped by Ray, so `ready` raises it."""

    def __init__(self, build: Callable[[], Model]) -> None:
        self._refusal: UserError | None = None
        try:
            self._model = build()
        except UserError as error:
            self._refusal = error

    def ready(self) -> None:
        if self._refusal is not None:
            raise self._refusal

    def answer(self, number: int, questions: list[Question]) -> Answers:
        return number, self._model.answer(questions)


def on_vllm(
    llm: str, tokenizer: str | None, *, workers: int, say: Callable[[str], None] | None = None
) -> Ask:
    """What puts questions to a language model on vLLM, on the cluster that Ray's address names or a local
    one; neither is touched before the first question. `llm` is a folder, a name or a GGUF file."""

    def ask_vllm(batches: Iterable[Batch]) -> Generator[Answers]:
        model = llm
        if llm.lower().endswith(".gguf"):
            model = str(unpacked(Path(llm).expanduser(), tokenizer=tokenizer is None))
        elif Path(llm).expanduser().is_dir():
            model = str(Path(llm).expanduser().absolute())
        # on CPU the workers share a machine's cores
        threads = max(1, (os.cpu_count() or 1) // workers)
        with cluster(Settings(), say):
            yield from ask(batches, partial(_vllm, model, tokenizer, threads), workers=workers)

    return ask_vllm


def ask(
    batches: Iterable[Batch],
    build: Callable[[], Model],
    *,
    workers: int,
    start_s: float = START_S,
    answer_s: float = ANSWER_S,
) -> Generator[Answers]:
    """Put batches to `workers` models and yield the answers as they come. Ray must be initialised.

    Each worker takes a logical CPU, and a GPU where the cluster has one for each. They end with the iterator.

    Raises:
        UserError: the cluster is too small, a model is not loaded within `start_s` or does not answer within
        `answer_s`, or a worker dies.
    """
    gpus = _gpus(workers)
    # Threads that wait actively for one another stall where cores are shared.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"}
    actors: list[Any] = [
        ray.remote(_Writer)
        .options(num_cpus=1, num_gpus=gpus, runtime_env={"env_vars": environment})
        .remote(build)
        for _ in range(workers)
    ]
    try:
        ready = {actor.ready.remote(): actor for actor in actors}
        for _ in _as_they_end(ready, start_s, "load the language model"):
            pass
        left = iter(batches)
        working: dict[Any, Any] = {}
        for actor in actors * AHEAD:
            _give(actor, left, working)
        # every end frees its actor, which is given more before the answers are passed on
        for actor, answers in _as_they_end(working, answer_s, "answer"):
            _give(actor, left, working)
            yield answers
    finally:
        for actor in actors:
            ray.kill(actor)


def _give(actor: Any, left: Iterator[Batch], working: dict[Any, Any]) -> None:
    for number, questions in left:
        working[actor.answer.remote(number, questions)] = actor
        return


def _as_they_end(working: dict[Any, Any], wait_s: float, what: str) -> Generator[tuple[Any, Any]]:
    """(actor, result) of each call that ends; calls may be added to `working` meanwhile."""
    since = time.monotonic()
    while working:
        done, _ = ray.wait(list(working), timeout=min(SAY_EVERY_S, wait_s))
        for reference in done:
            actor = working.pop(reference)
            since = time.monotonic()
            yield actor, _result(reference)
        waited = time.monotonic() - since
        if waited >= wait_s:
            raise UserError(
                f"no worker could {what} within {wait_s:g} s; look at their logs with `ray logs`, take "
                "a smaller model or fewer --workers"
            )
        if not done:
            log.warning("waiting for %d calls of workers to %s, for %.0f s now", len(working), what, waited)


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause if isinstance(error.cause, UserError) else error from None
    except RayActorError as error:
        raise UserError(f"a worker that asks the language model died: {error}") from error


def _gpus(workers: int) -> float:
    """GPUs of each worker. Raises UserError where the cluster would never start them all."""
    there = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if there.get("CPU", 0.0) < workers:
        raise UserError(
            f"{workers} workers take a CPU each and the Ray cluster has {there.get('CPU', 0.0):g}; "
            "lower --workers or add nodes"
        )
    return 1.0 if there.get("GPU", 0.0) >= workers else 0.0


def _vllm(model: str, tokenizer: str | None, threads: int) -> Model:
    # Imported in the actor alone: the driver needs no torch.
    from saga_ray.composed.writing.llm import Llm

    return Llm(model, tokenizer, threads)
