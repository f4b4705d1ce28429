"""What commands that embed pictures share: in this process, or by the actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # heavy, and not needed for help
    from saga_ray.config.settings import Settings
    from saga_ray.retrieval.embed import How

WORKERS = (
    "embed with this many Ray actors, with a GPU each where the cluster has GPUs; "
    "default: one for more than 5,000 pictures, else this process does it"
)
"""Help of `--workers`."""


def check_workers(workers: int | None) -> None:
    """Raises UserError for what is not a number of actors."""
    from saga_ray.errors import UserError

    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers} is not a number of actors")


@contextmanager
def embedding(settings: Settings, workers: int | None, pictures: int) -> Iterator[How]:
    """How to embed so many pictures; a Ray cluster for the duration of the block where it is to do it."""
    from saga_ray.retrieval.embed import FEW, How

    settings.evaluation.workers = workers or settings.evaluation.workers
    if workers is None and pictures <= FEW:
        yield How(settings.evaluation, local=True, gpus=0.0)
        return

    import ray

    from saga_ray.train.cluster import cluster

    with cluster(settings):
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        gpus = 1.0 if there.get("GPU", 0) >= settings.evaluation.workers else 0.0
        yield How(settings.evaluation, local=False, gpus=gpus)
