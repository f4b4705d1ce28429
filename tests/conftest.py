"""Fixtures of more than one folder: one local Ray for the session, since starting one takes 5 seconds."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before torch is imported: threads that wait actively for one another stall where cores are shared,
# be it with Ray's workers or with other work on the machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import ray

from saga_ray.config.names import SOURCE_TREE
from saga_ray.serve import local
from saga_ray.train.cluster import ANY, LOCAL, lock

# An example's seconds say what else the machine does, not what is tested.
hypothesis.settings.register_profile("saga", deadline=None)
hypothesis.settings.load_profile("saga")

CPUS = 8
"""Logical ones: more than the cores, since actors that wait take one each."""


@pytest.fixture(scope="session")
def session_ray() -> Iterator[None]:
    """A Ray that the tests of a session share; runs of `saga_ray.train` join it. Its workers find `tests`."""
    with local.environment() as serving:
        for name, value in (ANY | LOCAL | serving).items():
            os.environ.setdefault(name, value)
        started = not ray.is_initialized()
        if started:
            lock()
            _start()
        yield
        if started:
            ray.shutdown()


def _start(attempts: int = 3) -> None:
    """Ray gives its node 30 seconds to start; a machine with much else to do may need a second try."""
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SOURCE_TREE)}
    for attempt in range(1, attempts + 1):
        try:
            ray.init(
                address="local",
                num_cpus=CPUS,
                include_dashboard=False,
                log_to_driver=False,
                runtime_env={"env_vars": variables},
            )
            return
        except Exception as error:  # Ray raises no narrower class here
            if attempt == attempts or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
