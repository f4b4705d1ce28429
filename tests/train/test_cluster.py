"""Waiting for a cluster to grow: what is asked of the autoscaler, what is said, what is taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.train import cluster

SETTINGS = Settings.model_validate(
    {
        "train": {"workers": 2, "gpus_per_worker": 1.0, "resources": {"training": 1.0}},
        "rollout": {"actors": 1, "cpus_per_actor": 2.0, "resources": {"rollout": 1.0}},
        "ray": {"address": "head:6379", "wait_for_resources_s": 100.0},
    }
)
WORKER = {"CPU": 2.0, "GPU": 1.0, "training": 1.0}
ACTOR = {"CPU": 2.0, "rollout": 1.0}
ENOUGH = {"CPU": 16.0, "GPU": 2.0, "training": 2.0, "rollout": 1.0}


class GrowingRay:
    """A cluster whose nodes come after a time; its clock goes on while one sleeps."""

    def __init__(self, patch: pytest.MonkeyPatch, grown_after_s: float) -> None:
        self.now, self.grown_after_s = 0.0, grown_after_s
        self.requests: list[Any] = []
        patch.setattr(cluster, "time", SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep))
        patch.setattr(cluster, "ray", SimpleNamespace(cluster_resources=self.resources))
        patch.setattr(cluster, "request_resources", lambda bundles: self.requests.append(bundles))
        patch.delenv("RAY_ADDRESS", raising=False)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def resources(self) -> dict[str, float]:
        return ENOUGH if self.now >= self.grown_after_s else {"CPU": 16.0}


def test_a_joined_cluster_is_asked_to_grow_and_the_request_taken_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    growing = GrowingRay(monkeypatch, grown_after_s=70.0)
    cluster.wait_for_resources(SETTINGS, SETTINGS.rollout)
    assert growing.requests == [[WORKER, WORKER, ACTOR], []]
    wants = "2 GPU (there are 0), 2 training (there are 0), 1 rollout (there are 0)"
    assert caplog.messages == [f"waiting for the Ray cluster to grow: the run needs {wants}"] * 3


def test_the_wait_ends_with_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = GrowingRay(monkeypatch, grown_after_s=1e9)
    with pytest.raises(UserError, match=r"wait_for_resources_s=100 s: it needs 2 GPU \(there"):
        cluster.wait_for_resources(SETTINGS, SETTINGS.rollout)
    assert growing.requests[-1] == [] and growing.now == pytest.approx(100.0, abs=5.0)


def test_a_cluster_that_is_large_enough_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = GrowingRay(monkeypatch, grown_after_s=0.0)
    cluster.wait_for_resources(SETTINGS, SETTINGS.rollout)
    assert growing.requests == [] and growing.now == 0.0


def test_a_local_cluster_answers_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    growing = GrowingRay(monkeypatch, grown_after_s=10.0)
    local = SETTINGS.model_copy(update={"ray": SETTINGS.ray.model_copy(update={"address": None})})
    with pytest.raises(UserError, match="too little for this run: it needs .*; raise ray.local_cpus"):
        cluster.wait_for_resources(local, local.rollout)
    assert growing.requests == [] and growing.now == 0.0


def test_ray_does_not_take_over_sigterm(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ray.init` installs a handler that prints a stack trace; the command line has a better one."""
    monkeypatch.setattr(
        cluster, "_start", lambda settings, dashboard: signal.signal(signal.SIGTERM, lambda *_: None)
    )
    monkeypatch.setattr(cluster, "ray", SimpleNamespace(is_initialized=lambda: False, shutdown=lambda: None))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with cluster.cluster(Settings()):
            assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGTERM, before)


STRANGER = """
import ray
ray.init(address=ADDRESS, log_to_driver=False, configure_logging=False)
print(ray.get(ray.remote(lambda: "code ran").remote()))
"""


@pytest.mark.parametrize("known", [True, False])
def test_a_local_cluster_does_what_its_own_processes_say_and_nobody_else(
    known: bool, session_ray: None, tmp_path: Path
) -> None:
    own = {name: value for name, value in os.environ.items() if known or not name.startswith("RAY_")}
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", STRANGER.replace("ADDRESS", repr(address))],
        env=own | {"HOME": str(tmp_path), "RAY_NUM_REDIS_GET_RETRIES": "1"},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ("code ran" in done.stdout) == known, done.stderr
    assert known or "token is missing" in done.stderr
