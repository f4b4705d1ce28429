"""Sweeps of `saga cir train`: all stages a trial. No trial asks for rollouts, so they share nothing.

A trial tells of each look at the validation queries that its worker takes while the last stage trains: every
`validate_every` steps of that stage, and at its end. Stage 1 is not looked at: its embedder was never asked
for image + instruction, so what it finds would not tell good trials from bad ones. Steps are those of the
last stage, so that trials whose first stages differ in length are compared at equal places. A trial that PBT
lets go on from a better one takes that one's first stage with it, which the checkpoint builds on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from saga_ray.composed.query_embeddings import COMPOSED, WAYS
from saga_ray.composed.result import headline
from saga_ray.composed.train.prepare import prepare, require_examples, require_queries
from saga_ray.composed.train.run import run
from saga_ray.composed.train.scores import score
from saga_ray.config.composed import ComposedSettings
from saga_ray.config.searched import AnySettings
from saga_ray.config.sweep import SweepSettings, corners, trial_settings
from saga_ray.train.cluster import wait_for_resources
from saga_ray.train.trial import Trial
from saga_ray.tune.engines import TRIAL_CPUS
from saga_ray.tune.result import QueriesRecord
from saga_ray.tune.swept import Say


class EmbedderTrials:
    """See `Trials`."""

    def run(self, settings: AnySettings, folder: Path, trial: Trial, *, resume: bool) -> None:
        """See `Trials`."""
        assert isinstance(settings, ComposedSettings)
        run(settings, folder, resume=resume, trial=trial)


class SweptEmbedders:
    """See `Swept`."""

    def __init__(self, sweep: SweepSettings, base: ComposedSettings, say: Say) -> None:
        say(f"loading captions, triplets and queries ({base.data.source})")
        self._sweep, self._base = sweep, base
        self._ready = prepare(base)
        self._test = require_queries(base.data.source, "test")
        for values in corners(sweep):
            settings = trial_settings(sweep, values)
            assert isinstance(settings, ComposedSettings)
            require_examples(self._ready.data, settings)

    @contextmanager
    def trials(self, say: Say) -> Iterator[EmbedderTrials]:
        """See `Swept`."""
        wait_for_resources(self._base, None, runs=self._sweep.concurrency, driver_cpus=TRIAL_CPUS)
        yield EmbedderTrials()

    def test(self, model: Path) -> dict[str, float]:
        """See `Swept`; beside the composed queries, R@1 of what sees a part of them only."""
        measures = score(model, self._test, self._ready.validation, self._base).measures
        composed = measures[COMPOSED]
        return {name: composed[name] for name in headline(composed)} | {
            f"{way}/recall@1": measures[way]["recall@1"] for way in WAYS if way != COMPOSED
        }

    def data(self) -> QueriesRecord:
        """See `Swept`."""
        data = self._ready.data
        return QueriesRecord(
            source=self._base.data.source,
            note=data.note,
            hash=data.hash,
            train_pictures=len(data.pictures.sources),
            train_captions=len(data.captioned),
            train_triplets=len(data.triplets),
            test_queries=len(self._test.queries),
            test_pictures=sum(len(gallery.pictures) for gallery in self._test.galleries.values()),
        )
