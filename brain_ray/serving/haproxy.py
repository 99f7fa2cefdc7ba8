"""HAProxy, the proxy in front of the replicas: its settings and its error page."""

import random
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from brain_ray.errors import RunError
from brain_ray.serving.problems import RETRY_AFTER_S, ProblemError

PORTS = 100
"""Of each endpoint on a machine: one for Serve's own proxy, the others for replicas."""

CLIENT_S = 30
"""Seconds without a byte after which a client's connection is closed."""

HEADERS_S = 10
"""Seconds that the headers of a request may take."""

FRONT = "brain_ray.serving.security:before_ray"
"""What Ray Serve calls for middleware, in proxies and replicas."""

ERROR_PAGE = (
    "HTTP/1.1 503 Service Unavailable\r\n"
    "Content-Type: application/problem+json\r\n"
    f"Retry-After: {RETRY_AFTER_S}\r\n"
    "Connection: close\r\n"
    "\r\n"
    + ProblemError(
        "not_ready", "no replica is ready, or one was lost while it answered"
    ).problem.model_dump_json()
)
"""What the proxy answers while there is no replica; by default, Ray Serve has it say 500."""


def proxy_settings(
    folder: Path,
    *,
    client_s: int = CLIENT_S,
    headers_s: int = HEADERS_S,
    shuffle: Callable[[list[int]], None] = random.shuffle,
) -> dict[str, str]:
    """Returns the environment that Ray Serve's proxy and replicas want, with this instance's own files.

    HAProxy in front of the replicas handles several times the requests of Serve's Python proxy.

    Args:
        folder: of the instance's files.
        client_s: seconds without a byte after which a client's connection is closed.
        headers_s: seconds that the headers of a request may take.
        shuffle: puts the first ports of the ranges that may be free in the order in which they are tried.
    """
    first = _free_ports(shuffle)
    return {
        # Where no replica is ready, HAProxy asks Serve's own proxy, by default at port 8500 of the machine
        # whoever it belongs to: another endpoint's would answer with its model. So might another's replica at
        # the port of one that has just died.
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(first),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(first + 1),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(first + PORTS - 1),
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "metrics.sock"),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(_free_port()),
        "RAY_SERVE_HAPROXY_NBTHREAD": "2",
        # HAProxy gets half a minute to start; by default, its actor is killed if that has taken 5 s.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # Half a request must not hold a connection, nor a client who takes no more of an answer. Ray has no
        # variable for the two time-outs of the second setting, which its template puts on a line of its own.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(client_s),
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": (
            f"leastconn\n    timeout http-request {headers_s}s\n    timeout http-keep-alive {client_s}s"
        ),
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT,
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_RISE": "1",  # one sound answer puts a replica on the air
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    }


def mend_error_page() -> None:
    """Has the proxy, which is on the head node, answer with `ERROR_PAGE` while there is no replica."""
    import ray

    there = {"num_cpus": 0, "resources": {"node:__internal_head__": 0.001}}
    ray.get(ray.remote(**there)(_write_error_page).remote())


def _write_error_page() -> None:
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    for page in Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC).parent.rglob("500.http"):
        page.write_bytes(ERROR_PAGE.encode())


def _free_ports(shuffle: Callable[[list[int]], None]) -> int:
    """Returns the first of PORTS ports that no other endpoint of this machine uses."""
    starts = list(range(10_000, 32_000, PORTS))  # below those that the system gives to connections
    shuffle(starts)
    for start in starts:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("", start))
            return start
    raise RunError("no ports below 32000 are free for replicas: end other endpoints on this machine")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
