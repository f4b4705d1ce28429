"""Ports for servers of this machine that are started a moment later."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

from saga_ray.errors import UserError

CHOICE = range(20_000, 30_000)
"""What Linux and macOS give to nobody who does not ask for it: their own choices begin at 32768 and 49152,
and Ray's at 10002 (workers, to 19999) and 30000 (replicas)."""


def free_port() -> int:
    """A port that nothing listens on now and that the system will not give to another process in the
    meantime, as it may do with a port of its own choice that has been let go. Raises UserError where all are
    taken.
    """
    for port in random.SystemRandom().sample(CHOICE, len(CHOICE)):  # whatever seed the process has set
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise UserError(f"no port from {CHOICE[0]} to {CHOICE[-1]} is free here; end what listens on them")
