"""The Ray cluster that a run uses: joined, or started here; and a clear word when it is too small."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.autoscaler.sdk import request_resources

from saga_ray.config.job import Job
from saga_ray.config.settings import RolloutSettings
from saga_ray.errors import UserError
from saga_ray.train.ports import free_port

log = logging.getLogger(__name__)

SAY_EVERY_S = 30.0
LOOK_EVERY_S = 2.0
Bundle = dict[str, float]

ANY = {
    # Workers resolve relative paths from the driver's folder, not from Ray Train's storage.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
"""Environment of the driver, unless the user has set it."""
LOCAL = {
    # Nobody takes this machine away, and each arm would start a process to look out for that.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # More processes than cores start at once here, on purpose.
    "RAY_worker_maximum_startup_concurrency": "16",
}
"""The same for a local cluster."""


@contextmanager
def cluster(
    settings: Job, say: Callable[[str], None] | None = None, *, state_api: bool = False
) -> Iterator[None]:
    """Join the cluster of ``ray.address`` or of the submitted job, else start a local one for the duration of
    the block, and `say` which; `state_api`: with the dashboard, which answers what has become of an actor.
    """
    address = address_of(settings)
    joined = ray.is_initialized()
    at_sigterm = signal.getsignal(signal.SIGTERM)
    for name, value in (ANY if address else ANY | LOCAL).items():
        os.environ.setdefault(name, value)
    if not joined:
        if say:
            say(f"joining the Ray cluster at {address}" if address else "starting a local Ray cluster")
        try:
            _join(address) if address else _start(settings, dashboard=state_api)
        except Exception as error:  # Ray raises several kinds, bare Exception among them
            where = f"the Ray cluster at {address}" if address else "a local Ray cluster"
            raise UserError(
                f"{where} could not be reached or started: {_first_line(error)}; check `ray status`"
            ) from error
        if callable(at_sigterm) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, at_sigterm)  # the caller's; Ray has put its own in its place
    try:
        yield
    finally:
        if not joined:
            ray.shutdown()


# Arithmetic threads are set by train.threads_per_worker and rollout.threads_per_actor; more would fight.
RUNTIME: dict[str, Any] = {"env_vars": {"OMP_NUM_THREADS": "1"}}
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
STARTS = 3
"""Ray gives its own processes 30 s to start, which a busy machine may exceed."""


def lock() -> None:
    """Before a local cluster starts: let only this process and those that it starts speak to it. Ray listens
    on all of the machine's addresses, and whoever it listens to can run code.

    The token is in the environment alone: in the home folder, where Ray would write it, a later `ray start`
    would pick it up. A mode or token that the user has chosen stays.
    """
    if not any(os.environ.get(name) for name in AUTHENTICATION):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
        # Its only warning is that there is a token now.
        logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)


def _join(address: str) -> None:
    ray.init(address=address, runtime_env=RUNTIME, log_to_driver=False, configure_logging=False)


def _start(settings: Job, *, dashboard: bool) -> None:
    lock()
    port, runtime = None, RUNTIME
    if dashboard:
        # By its address: where other clusters run on this machine, workers would not know which is theirs.
        port = free_port()
        address = {"RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{port}"}
        runtime = {"env_vars": RUNTIME["env_vars"] | address}
    for attempt in range(1, STARTS + 1):
        try:
            ray.init(
                address="local",  # else Ray joins a cluster that someone else started on this machine
                num_cpus=settings.ray.local_cpus,
                resources=_local_resources(settings),
                include_dashboard=dashboard,
                dashboard_port=port,
                runtime_env=runtime,
                log_to_driver=False,
                configure_logging=False,
            )
            return
        except Exception as error:
            ray.shutdown()
            if attempt == STARTS or "timed out during startup" not in str(error):
                raise


def alive_nodes() -> int:
    """Nodes of the cluster that are up."""
    return sum(bool(node["Alive"]) for node in ray.nodes())  # type: ignore[no-untyped-call]


def wait_for_resources(
    settings: Job, rollout: RolloutSettings | None, *, runs: int = 1, driver_cpus: float = 0.0
) -> None:
    """Wait until the cluster's total covers what the run asks for at the same time, or so many runs that
    share the rollout actors; says what is missing when it does not come.

    `rollout`: of the rollout actors; none: there are none. `driver_cpus`: of each run's own process, where
    that is an actor.

    A cluster that this run joined may grow: its autoscaler is asked for the nodes. A local one does not, so
    there the answer is immediate.
    """
    bundles = _bundles(settings, rollout, runs, driver_cpus)
    missing, limit_s = _missing(bundles), settings.ray.wait_for_resources_s
    waited, remedy = "", "raise ray.local_cpus"
    if missing and address_of(settings):
        missing = _wait_while_it_grows(bundles, limit_s)
        waited, remedy = f" after ray.wait_for_resources_s={limit_s:g} s", "add nodes"
    if missing:
        raise UserError(
            f"the Ray cluster has too little for this run{waited}: it needs {_wants(missing)} "
            f"for {runs * settings.train.workers} training workers, "
            f"{rollout.actors if rollout else 0} rollout actors and data tasks; "
            f"{remedy}, or lower train.workers, rollout.actors or their cpus"
        )


def _wait_while_it_grows(bundles: list[Bundle], limit_s: float) -> Bundle:
    """Ask the autoscaler for the bundles and wait; returns what is missing still at the limit."""
    deadline = time.monotonic() + limit_s
    say_at = time.monotonic()
    request_resources(bundles=bundles)
    try:
        while (missing := _missing(bundles)) and time.monotonic() < deadline:
            if time.monotonic() >= say_at:
                log.warning("waiting for the Ray cluster to grow: the run needs %s", _wants(missing))
                say_at += SAY_EVERY_S
            time.sleep(LOOK_EVERY_S)
        return missing
    finally:
        # The request outlives its driver and would keep idle nodes for ever; from here on the run's own
        # workers and actors hold them.
        request_resources(bundles=[])


def _bundles(settings: Job, rollout: RolloutSettings | None, runs: int, driver_cpus: float) -> list[Bundle]:
    """What each training worker, rollout actor and driver needs on its node."""
    train = settings.train
    # One logical CPU stays free for the data tasks of each worker, or training would wait for pictures for
    # ever.
    worker = {"CPU": train.cpus_per_worker + 1.0, "GPU": train.gpus_per_worker, **train.resources}
    bundles = [worker] * train.workers * runs
    if rollout:
        actor = {"CPU": rollout.cpus_per_actor, "GPU": rollout.gpus_per_actor, **rollout.resources}
        bundles += [actor] * rollout.actors
    bundles += [{"CPU": driver_cpus}] * runs if driver_cpus else []
    return [{name: amount for name, amount in bundle.items() if amount > 0} for bundle in bundles]


def _missing(bundles: list[Bundle]) -> Bundle:
    """The amounts in all, of those resources of which the cluster has less."""
    needed: Bundle = {}
    for bundle in bundles:
        for name, amount in bundle.items():
            needed[name] = needed.get(name, 0.0) + amount
    total = _total()
    return {name: amount for name, amount in needed.items() if total.get(name, 0.0) < amount}


def _wants(missing: Bundle) -> str:
    total = _total()
    return ", ".join(
        f"{amount:g} {name} (there are {total.get(name, 0.0):g})" for name, amount in missing.items()
    )


def _total() -> Bundle:
    return dict(ray.cluster_resources())  # type: ignore[no-untyped-call]


def address_of(settings: Job) -> str | None:
    """Of the cluster to join; none: a local one."""
    return settings.ray.address or os.environ.get("RAY_ADDRESS") or None


def _local_resources(settings: Job) -> dict[str, float]:
    """Custom resources that the settings name exist on a local cluster too, so that placement settings need
    no change there.
    """
    return {name: 1000.0 for name in settings.custom_resources}


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
