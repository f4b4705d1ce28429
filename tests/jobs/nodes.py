"""Ray nodes as `ray start` makes them, jobs as `ray job submit` sends them; each in processes of its own.

Nothing of Ray is called in the tests' own process, which may be part of another cluster with another way of
authentication.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from saga_ray.config.names import SOURCE_TREE
from saga_ray.train.ports import free_port

START_S, STOP_S, SUBMIT_S = 240.0, 10.0, 150.0
JOB_S = 500.0
STARTS = 3
"""Ray gives its own processes 30 s to start, which a busy machine may exceed."""
BIN = Path(sys.executable).parent


def wait_until(what: str, ready: Callable[[], Any], limit_s: float, log: Path | None = None) -> Any:
    """What ``ready`` returns once it is true; fails with the log after the limit."""
    deadline = time.monotonic() + limit_s
    while not (found := ready()):
        said = log.read_text()[-3000:] if log else ""
        assert time.monotonic() < deadline, f"{what} took longer than {limit_s:g} s\n{said}"
        time.sleep(0.5)
    return found


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        with urllib.request.urlopen(url, timeout=20):
            return True
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


def get(url: str) -> Any:
    """The JSON that a server answers; none as long as it does not."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return None


def environment() -> dict[str, str]:
    """The same for all processes of a cluster: this Python first, no token, nothing of another cluster."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SAGA_"))}
    return ours | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
    }


@contextmanager
def process(
    command: list[str], log: Path, variables: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that ends with the block, with all that it started."""
    with log.open("wb") as output:
        running = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment() | dict(variables or {}),
            start_new_session=True,
        )
    try:
        yield running
    finally:
        family = _session(running.pid)
        if running.poll() is None:
            running.terminate()
        deadline = time.monotonic() + STOP_S
        while any(map(_alive, family)) and time.monotonic() < deadline:
            time.sleep(0.2)
        for one in filter(_alive, family):
            with suppress(psutil.NoSuchProcess):
                one.kill()
        running.wait(STOP_S)


def _session(leader: int) -> list[psutil.Process]:
    """All processes that a session's leader has started, also those whose parents have ended."""
    found = []
    for one in psutil.process_iter():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(one.pid) == leader:
                found.append(one)
    return found


def _alive(one: psutil.Process) -> bool:
    """Not ended; what has ended may stay in the table for ever where nobody asks for its exit code."""
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(frozen=True)
class Head:
    """The head of a running cluster, and how to reach it."""

    dashboard: str
    """Of the dashboard and the job server."""
    folder: Path
    """Ray's temporary folder: sessions, logs, the working folders of jobs."""

    def submit(self, name: str, copy: Path, home: Path, *arguments: str) -> None:
        """``ray job submit``, as the README says it; returns once the job is accepted."""
        variables = json.dumps({"env_vars": {"SAGA_HOME": str(home)}})
        done = subprocess.run(
            [
                *(BIN / "ray", "job", "submit", "--address", self.dashboard, "--no-wait"),
                *("--submission-id", name, "--runtime-env-json", variables, "--working-dir", "."),
                *("--", "python", "jobs/train.py", *arguments),
            ],
            cwd=copy,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=SUBMIT_S,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def log_of(self, name: str) -> str:
        """What a job has printed so far."""
        answer = get(f"{self.dashboard}/api/jobs/{name}/logs") or {}
        return str(answer.get("logs") or "")

    def end_of(self, name: str, limit_s: float = JOB_S) -> tuple[str, str]:
        """A job's last status and its log, once it has ended."""
        deadline = time.monotonic() + limit_s
        while True:
            status = (get(f"{self.dashboard}/api/jobs/{name}") or {}).get("status", "unknown")
            if status in ("SUCCEEDED", "FAILED", "STOPPED"):
                return status, self.log_of(name)
            assert time.monotonic() < deadline, (
                f"job {name} is {status} after {limit_s:g} s\n{self.log_of(name)}"
            )
            time.sleep(1.0)

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes that are up: id and total resources."""
        return [node for node in self._state("nodes") if node["state"] == "ALIVE"]

    def actors(self) -> list[dict[str, Any]]:
        """All actors that there ever were: class, job, node."""
        return self._state("actors")

    def _state(self, what: str) -> list[dict[str, Any]]:
        answer = get(f"{self.dashboard}/api/v0/{what}?limit=1000&detail=True")
        return list(answer["data"]["result"]["result"]) if answer else []


@contextmanager
def head(
    folder: Path, resources: Mapping[str, float], grows_by: Mapping[str, float] | None = None
) -> Iterator[Head]:
    """``ray start --head`` on ports of its own. ``folder`` must have a short name: it holds sockets.

    ``grows_by``: resources of a second node, which Ray's autoscaler starts on this machine once they are
    asked for.
    """
    port, dashboard = free_port(), free_port()
    up = Head(f"http://127.0.0.1:{dashboard}", folder)
    custom = {name: amount for name, amount in resources.items() if name != "CPU"}
    command = [
        *(str(BIN / "ray"), "start", "--block", "--head", f"--port={port}", f"--temp-dir={folder}"),
        *(f"--num-cpus={resources['CPU']:g}", f"--resources={json.dumps(custom)}"),
        *("--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard}"),
        *(f"--ray-client-server-port={free_port()}", "--min-worker-port=0", "--max-worker-port=0"),
        *("--dashboard-agent-listen-port=0", "--dashboard-agent-grpc-port=0", "--metrics-export-port=0"),
        "--object-store-memory=200000000",
    ]
    more: dict[str, str] = {}
    if grows_by:
        autoscaler = folder / "autoscaler.json"
        autoscaler.write_text(json.dumps(_autoscaler(f"127.0.0.1:{port}", resources, grows_by)))
        command.append(f"--autoscaling-config={autoscaler}")
        more = {
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "PYTHONPATH": str(SOURCE_TREE),  # for `second_node`
        }
    log = folder / "head.log"
    for attempt in range(1, STARTS + 1):
        with process(command, log, more) as running:

            def up_or_given_up(running: subprocess.Popen[bytes] = running) -> bool:
                return bool(running.poll() is not None or up.nodes())

            wait_until("the start of a Ray head", up_or_given_up, START_S, log)
            if running.poll() is None:
                yield up
                return
        said = log.read_text()
        assert attempt < STARTS and "timed out during startup" in said, said


def _autoscaler(address: str, head_has: Mapping[str, float], grows_by: Mapping[str, float]) -> dict[str, Any]:
    """A cluster-launcher file as `cluster.yaml` is one, whose nodes are processes of this machine."""
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    more = ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude")
    return {
        "cluster_name": "two-nodes",
        "max_workers": 1,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 30,
        "provider": {
            "type": "external",
            "module": "tests.jobs.second_node.SecondNode",
            "gcs_address": address,
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": dict(head_has), "node_config": {}, "max_workers": 0},
            "second": {"resources": dict(grows_by), "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in (*lists, *more, "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }
