"""The Ray cluster that a run uses: joined, or started here; and a clear word when it is too small."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import ray

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError

QUIET = {
    # Workers resolve relative paths from the driver's folder, not from Ray Train's storage.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    # Ray's own warnings of the driver process (C++) go past Python's logging.
    "RAY_BACKEND_LOG_LEVEL": "error",
}
"""Set for the driver unless the user has."""
LOCAL = {
    # A cluster of this process alone, on loopback: no token is written to the home folder, where a later `ray
    # start`
    # would pick it up.
    "RAY_AUTH_MODE": "disabled",
    # More processes than cores start at once here, on purpose.
    "RAY_worker_maximum_startup_concurrency": "16",
}
"""The same for a local cluster."""


@contextmanager
def cluster(settings: Settings) -> Iterator[None]:
    """Join the cluster of ``ray.address`` or of the submitted job, else start a local one for the duration of
    the block.
    """
    address = settings.ray.address or os.environ.get("RAY_ADDRESS")
    joined = ray.is_initialized()
    for name, value in (QUIET if address else QUIET | LOCAL).items():
        os.environ.setdefault(name, value)
    # Arithmetic threads are set by train.threads_per_worker and rollout.threads_per_actor; more would fight
    # for the cores.
    variables = {"OMP_NUM_THREADS": "1"}
    if not joined:
        try:
            if address:
                ray.init(
                    address=address,
                    runtime_env={"env_vars": variables},
                    log_to_driver=False,
                    configure_logging=False,
                )
            else:
                ray.init(
                    num_cpus=settings.ray.local_cpus,
                    resources=_local_resources(settings),
                    include_dashboard=False,
                    runtime_env={"env_vars": variables},
                    log_to_driver=False,
                    configure_logging=False,
                )
        except (ConnectionError, RuntimeError, ValueError) as error:
            where = f"the Ray cluster at {address}" if address else "a local Ray cluster"
            raise UserError(
                f"{where} could not be reached or started: {_first_line(error)}; check `ray status`"
            ) from error
    try:
        yield
    finally:
        if not joined:
            ray.shutdown()


def alive_nodes() -> int:
    """Nodes of the cluster that are up."""
    return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]


def wait_for_resources(settings: Settings, *, rollouts: bool) -> None:
    """Wait until the cluster's total covers what the run asks for at the same time; says what is missing when
    it does not come.

    A local cluster does not grow, so there the answer is immediate.
    """
    needed = _needed(settings, rollouts=rollouts)
    deadline = time.monotonic() + (settings.ray.wait_for_resources_s if alive_nodes() > 1 else 0.0)
    while True:
        total = ray.cluster_resources()  # type: ignore[no-untyped-call]
        missing = {name: amount for name, amount in needed.items() if total.get(name, 0.0) < amount}
        if not missing:
            return
        if time.monotonic() >= deadline:
            break
        time.sleep(2.0)
    wants = ", ".join(
        f"{amount:g} {name} (there are {total.get(name, 0.0):g})" for name, amount in missing.items()
    )
    raise UserError(
        f"the Ray cluster has too little for this run: it needs {wants} "
        f"for {settings.train.workers} training workers, "
        f"{settings.rollout.actors if rollouts else 0} rollout actors and data tasks; "
        "raise ray.local_cpus, add nodes, or lower train.workers, rollout.actors or their cpus"
    )


def _needed(settings: Settings, *, rollouts: bool) -> dict[str, float]:
    train, rollout = settings.train, settings.rollout
    # One logical CPU stays free for the data tasks of each worker, or training would wait for pictures for
    # ever.
    needed = {
        "CPU": train.workers * (train.cpus_per_worker + 1.0),
        "GPU": train.workers * train.gpus_per_worker,
    }
    for name, amount in train.resources.items():
        needed[name] = needed.get(name, 0.0) + train.workers * amount
    if rollouts:
        needed["CPU"] += rollout.actors * rollout.cpus_per_actor
        needed["GPU"] += rollout.actors * rollout.gpus_per_actor
        for name, amount in rollout.resources.items():
            needed[name] = needed.get(name, 0.0) + rollout.actors * amount
    return {name: amount for name, amount in needed.items() if amount > 0}


def _local_resources(settings: Settings) -> dict[str, float]:
    """Custom resources that the settings name exist on a local cluster too, so that placement settings need
    no change there.
    """
    names = {*settings.train.resources, *settings.rollout.resources}
    return {name: 1000.0 for name in names}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
