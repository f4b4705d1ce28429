"""What a server on this machine alone sets for Ray Serve."""

from __future__ import annotations

import subprocess
from pathlib import Path

from saga_ray.serve.local import environment


def test_two_servers_on_one_machine_have_files_and_ports_of_their_own_which_only_the_user_can_open() -> None:
    with environment() as first, environment() as second:
        assert first["RAY_SERVE_ENABLE_HA_PROXY"] == "1" and first.keys() == second.keys()
        own = [name for name in first if "HAPROXY" in name]
        assert len(own) == 8 and not any(first[name] == second[name] for name in own)
        folder = Path(first["RAY_SERVE_HAPROXY_SOCKET_PATH"]).parent
        assert folder.stat().st_mode & 0o077 == 0
    assert not folder.exists()


def test_haproxy_s_counters_are_for_this_machine_and_the_service_is_for_whom_it_was_meant() -> None:
    with environment() as found:
        config = Path(found["RAY_SERVE_HAPROXY_CONFIG_FILE_LOC"])
        counters = [found[f"RAY_SERVE_HAPROXY_{name}_PORT"] for name in ("METRICS", "STATS")]
        config.write_text(f"    bind :{counters[0]}\n  bind *:{counters[1]}\n    bind *:8000\n")
        subprocess.run([found["RAY_SERVE_HAPROXY_BINARY_PATH"], "-c", "-f", str(config)], capture_output=True)
        here = [f"    bind 127.0.0.1:{counters[0]}", f"  bind 127.0.0.1:{counters[1]}"]
        assert config.read_text().splitlines() == [*here, "    bind *:8000"]
