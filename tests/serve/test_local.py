"""What a server on this machine alone sets for Ray Serve."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from saga_ray.serve.local import environment


def test_two_servers_on_one_machine_have_files_of_their_own_which_only_the_user_can_open() -> None:
    with environment() as first, environment() as second:
        assert first["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and first.keys() == second.keys()
        own = [name for name in first if "HAPROXY" in name]
        assert len(own) == 6 and not any(first[name] == second[name] for name in own)
        folder = Path(first["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_haproxy_s_counters_are_for_this_user_and_the_service_is_for_whom_it_was_meant(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)  # the launcher of this session's Ray
    with environment() as found:
        config = Path(found["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"])
        config.write_text("""\
frontend prometheus
    bind :9101
frontend http_frontend
    bind *:9101
listen stats
  bind *:8404
""")
        subprocess.run([found["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(config)], capture_output=True)
        assert (
            config.read_text()
            == f"""\
frontend prometheus
    bind unix@{config.parent}/prometheus.sock
frontend http_frontend
    bind *:9101
listen stats
  bind unix@{config.parent}/stats.sock
"""
        )
