"""`saga serve`: on a local Ray until it is interrupted, or on a cluster, where it goes on by itself."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress

from ray import serve

from saga_ray.config.serving import ServeSettings
from saga_ray.config.settings import Settings
from saga_ray.errors import UserError
from saga_ray.serve import local
from saga_ray.serve.deployment import QUIET, application
from saga_ray.train.cluster import address_of, cluster

APP = "saga"
LAST_PORT = 65_535


def run(
    settings: ServeSettings, *, host: str, port: int, address: str | None, ready: Callable[[str, bool], None]
) -> None:
    """Deploy, tell `ready` the service's URL and whether it goes on by itself, and then wait for the end of a
    local one. Raises UserError.
    """
    ray_settings = Settings()
    ray_settings.ray.address = address
    joined = address_of(ray_settings) is not None
    if not 1 <= port <= LAST_PORT:
        raise UserError(f"--port {port} is no port: choose one from 1 to {LAST_PORT}")
    if not joined:
        _check_port(host, port)
    app = application(settings)
    with ExitStack() as ending:
        if not joined:
            for name, value in ending.enter_context(local.environment()).items():
                os.environ.setdefault(name, value)
        ending.enter_context(cluster(ray_settings))
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(http_options={"host": host, "port": port}, logging_config=QUIET)
        try:
            serve.run(app, name=APP, route_prefix="/", logging_config=QUIET)
        except RuntimeError as error:
            why = str(error).strip().splitlines()[-1]
            raise UserError(f"the service could not be started: {why}") from error
        ready(_url(host, port), joined)
        if not joined:
            with suppress(KeyboardInterrupt):
                threading.Event().wait()
            serve.delete(APP)  # replicas end what they have begun; the rest goes with the cluster


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host's address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, host)
    return f"http://[{shown}]:{port}/" if ":" in shown else f"http://{shown}:{port}/"


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {host} cannot be used ({error.strerror}); choose another by --port"
            ) from error
