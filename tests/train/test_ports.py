"""Ports for servers that start a moment later."""

from __future__ import annotations

import random
import socket
from pathlib import Path

import pytest

from saga_ray.errors import UserError
from saga_ray.train import ports


def test_the_system_gives_a_free_port_to_nobody_else_in_the_meantime() -> None:
    first_of_the_system = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert ports.CHOICE[0] <= ports.free_port() <= ports.CHOICE[-1] < first_of_the_system


def test_processes_of_one_seed_choose_differently() -> None:
    found = []
    for _ in range(3):
        random.seed(7)
        found.append(ports.free_port())
    assert len(set(found)) > 1


def test_a_port_that_is_taken_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "CHOICE", range(port, port + 1))
        with pytest.raises(UserError, match=f"no port from {port} to {port} is free here"):
            ports.free_port()
    assert ports.free_port() == port
