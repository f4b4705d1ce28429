"""Sweeps of `saga train`: one arm a trial, over one set of rollout actors.

A trial tells of each look at the validation classes (`evaluation.validate_every`), which its worker takes
while it trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from saga_ray.config.searched import AnySettings
from saga_ray.config.settings import Settings
from saga_ray.config.sweep import SweepSettings
from saga_ray.models.encoder import Encoder
from saga_ray.retrieval.embed import embed
from saga_ray.retrieval.evaluation import evaluate_embeddings
from saga_ray.retrieval.record import DataRecord, data_record
from saga_ray.rollout.pool import Engines
from saga_ray.train.prepare import prepare, require_classes
from saga_ray.train.run import run
from saga_ray.train.trial import Trial
from saga_ray.tune.engines import shared_engines
from saga_ray.tune.swept import Say


@dataclass(frozen=True)
class EncoderTrials:
    """See `Trials`."""

    engines: Engines | None

    def run(self, settings: AnySettings, folder: Path, trial: Trial, *, resume: bool) -> None:
        """See `Trials`."""
        assert isinstance(settings, Settings)
        run(settings, folder, resume=resume, trial=trial, engines=self.engines)


class SweptEncoders:
    """See `Swept`."""

    def __init__(self, sweep: SweepSettings, base: Settings, say: Say) -> None:
        say(f"loading pictures ({base.data.source}) and supervisor ({base.supervisor.path})")
        self._sweep, self._base = sweep, base
        self._ready = prepare(base)
        require_classes(self._ready.table, base.data.source, "test")

    @contextmanager
    def trials(self, say: Say) -> Iterator[EncoderTrials]:
        """See `Swept`."""
        with shared_engines(self._sweep, self._base, self._ready, say) as engines:
            yield EncoderTrials(engines)

    def test(self, model: Path) -> dict[str, float]:
        """See `Swept`."""
        base, test = self._base, self._ready.table.part("test")
        z_ME, _ = embed(
            test,
            Encoder.load(model),
            base.evaluation,
            base.data.image_size,
            gpus=base.train.gpus_per_worker,
        )
        return evaluate_embeddings(z_ME, test.labels, seed=base.seed, roles_M=test.roles)

    def data(self) -> DataRecord:
        """See `Swept`."""
        return data_record(self._base.data.source, self._ready.table, "test")
