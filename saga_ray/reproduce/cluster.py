"""Runs on a Ray cluster: each a job of its job server, as `ray job submit` sends them.

In a source tree a job brings the tree with it and runs `jobs/train.py`; of an installed package the nodes
have their own, and it runs `saga train`.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ray.job_submission import JobStatus, JobSubmissionClient

from saga_ray.config.names import SOURCE_TREE
from saga_ray.errors import UserError
from saga_ray.reproduce.submit import Ended

STOP_S = 120.0
"""Longest wait for a job that was asked to stop."""
SILENCE_S = 600.0
"""A job server that has not answered for so long is given up; shorter gaps are waited through."""
JOB = SOURCE_TREE / "jobs" / "train.py"

Answer = TypeVar("Answer")


class ClusterRun:
    """One job."""

    def __init__(self, client: JobSubmissionClient, job: str, log: Path) -> None:
        self._client, self._job, self._log = client, job, log
        self._before = log.read_bytes() if log.exists() else b""
        self._heard = time.monotonic()

    def ended(self) -> Ended | None:
        """See `Started`; the log's file is brought up to date once the job has ended."""
        status = self._asked(self._client.get_job_status)
        if status is None:
            silent = time.monotonic() - self._heard
            if silent < SILENCE_S:
                return None
            return Ended(
                False,
                f"saga: the job server has not answered for {silent:.0f} s; the job {self._job} may go on: "
                "once it has ended, the same command takes its result",
            )
        if not status.is_terminal():
            return None
        printed = self._asked(self._client.get_job_logs) or ""
        self._log.write_bytes(self._before + printed.encode())
        return Ended(status == JobStatus.SUCCEEDED, printed or self._message())

    def stop(self) -> None:
        """See `Started`."""
        self._asked(self._client.stop_job)
        deadline = time.monotonic() + STOP_S
        while self.ended() is None and time.monotonic() < deadline:
            time.sleep(1.0)

    def _message(self) -> str:
        """What the server says of a job that printed nothing, such as one that could not be started."""
        info = self._asked(self._client.get_job_info)
        return (info.message or "") if info else ""

    def _asked(self, question: Callable[[str], Answer]) -> Answer | None:
        """The server's answer about this job; none if it gives none."""
        try:
            answer = question(self._job)
        except (OSError, RuntimeError):  # `requests` raises the one, Ray's client the other
            return None
        self._heard = time.monotonic()
        return answer


class Cluster:
    """Submits runs to a job server."""

    def __init__(self, address: str) -> None:
        """Raises UserError where no job server answers."""
        try:
            self._client = JobSubmissionClient(address)
        except (OSError, RuntimeError, ValueError) as error:
            raise UserError(
                f"--address {address}: no job server of Ray answers there: {str(error).splitlines()[0]}"
            ) from error

    def start(self, name: str, arguments: Sequence[str], log: Path) -> ClusterRun:
        """See `Runner`.

        Raises:
            UserError: the server does not take the job.
        """
        tree = JOB.is_file()
        command = ["python", "jobs/train.py"] if tree else ["saga", "train"]
        try:
            job = self._client.submit_job(
                entrypoint=shlex.join([*command, *arguments]),
                submission_id=f"{name}-{time.strftime('%Y%m%d-%H%M%S')}",
                runtime_env={"working_dir": str(SOURCE_TREE)} if tree else {},
                metadata={"saga.run": name},
            )
        except (OSError, RuntimeError) as error:
            raise UserError(f"the job server did not take {name}: {str(error).splitlines()[0]}") from error
        return ClusterRun(self._client, job, log)
