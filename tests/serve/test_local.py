"""What a server on this machine alone sets for Ray Serve."""

from __future__ import annotations

from pathlib import Path

from saga_ray.serve.local import environment


def test_two_servers_on_one_machine_have_files_and_ports_of_their_own_which_only_the_user_can_open() -> None:
    with environment() as first, environment() as second:
        assert first["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and first.keys() == second.keys()
        own = [name for name in first if "HAPROXY" in name]
        assert len(own) == 7 and not any(first[name] == second[name] for name in own)
        folder = Path(first["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()
