"""Jobs of a server that answers late, not at all, or that a run ended badly; a real one is in
`test_small_table`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from saga_ray.reproduce import cluster
from saga_ray.reproduce.cluster import ClusterRun
from saga_ray.reproduce.submit import sentence


class Server:
    """Answers with one status after the other; an exception is raised."""

    def __init__(self, *statuses: JobStatus | Exception, logs: str = "", message: str = "") -> None:
        self.statuses, self.logs, self.message = list(statuses), logs, message
        self.stopped: list[str] = []

    def get_job_status(self, job: str) -> JobStatus:
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if isinstance(status, Exception):
            raise status
        return status

    def get_job_logs(self, job: str) -> str:
        return self.logs

    def get_job_info(self, job: str) -> Any:
        return SimpleNamespace(message=self.message)

    def stop_job(self, job: str) -> bool:
        self.stopped.append(job)
        self.statuses = [JobStatus.STOPPED]
        return True


def of(server: Server, log: Path) -> ClusterRun:
    client: Any = server
    return ClusterRun(client, "job-1", log)


def test_a_job_is_waited_for_through_a_gap_and_its_log_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "run.log"
    log.write_text("of an earlier session\n")
    server = Server(
        JobStatus.PENDING, RuntimeError("502"), ConnectionError(), JobStatus.SUCCEEDED, logs="trained\n"
    )
    run = of(server, log)
    assert [run.ended() for _ in range(3)] == [None] * 3
    ended = run.ended()
    assert ended is not None and ended.ok and log.read_text() == "of an earlier session\ntrained\n"


def test_a_failed_job_says_why_from_its_log_or_from_the_server(tmp_path: Path) -> None:
    ended = of(Server(JobStatus.FAILED, logs="a\nsaga: it is full\n"), tmp_path / "a.log").ended()
    assert ended is not None and not ended.ok and sentence(ended.said) == "it is full"
    ended = of(Server(JobStatus.FAILED, message="no such node"), tmp_path / "b.log").ended()
    assert ended is not None and sentence(ended.said) == "no such node"


def test_a_server_that_stays_silent_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = of(Server(RuntimeError("gone")), tmp_path / "run.log")
    assert run.ended() is None
    monkeypatch.setattr(cluster, "SILENCE_S", 0.0)
    ended = run.ended()
    assert ended is not None and not ended.ok
    assert sentence(ended.said).startswith("the job server has not answered for 0 s; the job job-1 may go on")


def test_a_job_is_stopped_and_waited_for(tmp_path: Path) -> None:
    server = Server(JobStatus.RUNNING, logs="so far\n")
    run = of(server, tmp_path / "run.log")
    assert run.ended() is None
    run.stop()
    assert server.stopped == ["job-1"] and (tmp_path / "run.log").read_text() == "so far\n"
