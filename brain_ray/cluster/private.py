"""Uses of Ray's private APIs (2.60), where no public one exists; without them, brain_ray does less.

Each function documents what is lost if Ray has moved an API that it uses. tests/cluster/test_private.py calls
them with Ray's own, so that an upgrade that moves one fails there.
"""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ray.exceptions import AuthenticationError, OutOfMemoryError, RayActorError

from brain_ray.errors import first_line

ASK_S = 5.0
"""Seconds within which the head has to say which nodes are about to go."""


def running_address() -> str | None:
    """Returns the address of the cluster that `ray start` has started on this machine; None if there is none.

    Without Ray's `read_ray_address`: None, so that a job starts a Ray of its own beside such a cluster, if
    RAY_ADDRESS does not name it.
    """
    try:
        from ray._private.utils import read_ray_address
    except ImportError:
        return None
    return read_ray_address() or None


def ask_head(address: str, timeout_s: float) -> None:
    """Checks that a head node, `host:port`, answers and accepts this process's token.

    `ray.init` needs 20 s to find that nothing answers, and does not distinguish that from a refused token.
    Without Ray's generated gRPC stubs: only checks whether something answers there.

    Raises:
        ConnectionError: nothing answers there.
        AuthenticationError: it refuses the token.
    """
    try:
        import grpc  # type: ignore[import-untyped]
        from ray._private.grpc_utils import init_grpc_channel
        from ray.core.generated import gcs_service_pb2, gcs_service_pb2_grpc
    except ImportError:
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        except OSError as error:
            raise ConnectionError(address) from error
        return
    with init_grpc_channel(address, [("grpc.enable_http_proxy", 0)]) as channel:  # as Ray connects
        head = gcs_service_pb2_grpc.NodeInfoGcsServiceStub(channel)
        try:
            head.CheckAlive(gcs_service_pb2.CheckAliveRequest(), timeout=timeout_s)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise AuthenticationError("refused") from error
            if error.code() == grpc.StatusCode.UNAVAILABLE:
                raise ConnectionError(address) from error


def session_logs() -> str | None:
    """Returns the folder with the logs of the Ray that this process started; None if it started none.

    Without Ray's `_global_node`: None, so that an error cannot name the folder.
    """
    import ray

    node = getattr(getattr(ray._private, "worker", None), "_global_node", None)
    path = getattr(node, "get_session_dir_path", None)
    return f"{path()}/logs" if path is not None and getattr(node, "head", False) else None


def show_token() -> None:
    """Makes this process, and those that it starts, send their token to clusters that require one.

    Ray reads RAY_AUTH_MODE once, when it is imported; its `Config.initialize` reads it again. Without that,
    only a process that sets RAY_AUTH_MODE before it imports Ray sends a token.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    try:
        from ray._raylet import Config  # type: ignore[attr-defined]
    except ImportError:
        return
    Config.initialize("")


def token_headers() -> dict[str, str]:
    """Returns HTTP headers with this machine's token for a cluster's dashboard; {} if there is no token to
    send.

    Without Ray's `get_auth_headers_if_auth_enabled`: {}, so that a dashboard that requires a token refuses.
    """
    try:
        from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    except ImportError:
        return {}
    return dict(get_auth_headers_if_auth_enabled({}))


def skip_lines(pattern: str) -> None:
    """Drops workers' lines that match a pattern from this process's output, unless the user has set patterns.

    RAY_DEDUP_LOGS_SKIP_REGEX, the public way, is read when Ray is imported, which is too early. Without Ray's
    `stdout_deduplicator`: the lines are printed.
    """
    try:
        from ray._private.ray_logging import stdout_deduplicator
    except ImportError:
        return
    if getattr(stdout_deduplicator, "skip_re", "") is None:
        stdout_deduplicator.skip_re = re.compile(pattern)


def autoscaler_file() -> Path | None:
    """Returns the config that `ray up` gave to the autoscaler's process on this machine; None if there is
    none.

    Its name is read from the process's command line. If Ray starts that process in another way: None, so that
    it is unknown which nodes may come.
    """
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []  # thousands of empty ones where a process has set its title
        if not any(word and Path(word).match("autoscaler/*/monitor.py") for word in words):
            continue
        named = [word.partition("=")[2] for word in words if word.startswith("--autoscaling-config=")]
        if named and named[-1] and Path(named[-1]).is_file():
            return Path(named[-1])
    return None


def nodes_are_coming() -> bool:
    """Returns whether the autoscaler is starting nodes.

    Without Ray's `autoscaler.v2.sdk`: True, so that nodes are waited for as long as if they came.
    """
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status
    except ImportError:
        return True
    import ray

    status: Any = get_cluster_status(ray.get_runtime_context().gcs_address)
    return bool(status.pending_launches or status.pending_nodes)


def failed_launches(since: float) -> dict[str, str]:
    """Returns the types of nodes that could not be started since a time, in seconds since 1970, and the last
    reason of each, or "": Ray 2.60 leaves it in the monitor's log on the head node.

    Without Ray's `autoscaler.v2.sdk`: {}, so that no other type is asked for.
    """
    try:
        from ray.autoscaler.v2.sdk import get_cluster_status
    except ImportError:
        return {}
    import ray

    status: Any = get_cluster_status(ray.get_runtime_context().gcs_address)
    failed = [launch for launch in status.failed_launches if launch.failed_ts_s >= int(since)]
    failed.sort(key=lambda launch: launch.failed_ts_s)
    return {launch.ray_node_type_name: launch.details or "" for launch in failed}


def is_draining() -> bool:
    """Returns whether this process's node is about to be taken away, as `ray drain-node` says.

    Ray Train tells its workers; a trial of Ray Tune that trains in its own process has to ask. Without Ray's
    `GcsClient.get_draining_nodes`: False, so that such a trial loses what it did since its last checkpoint.
    """
    try:
        from ray._raylet import GcsClient  # type: ignore[attr-defined]
    except ImportError:
        return False
    import ray

    context = ray.get_runtime_context()
    ask = getattr(GcsClient(address=context.gcs_address), "get_draining_nodes", None)
    try:
        return ask is not None and context.get_node_id() in ask(timeout=ASK_S)
    except ray.exceptions.RpcError:  # the head is busy: the next look asks again
        return False


class MemoryKillError(RayActorError, OutOfMemoryError):  # type: ignore[misc]
    """Ray killed an actor's process because its node ran low on memory."""

    def __init__(self, line: str) -> None:
        RayActorError.__init__(self, error_msg=line)


@contextmanager
def memory_kills_end_trials() -> Iterator[None]:
    """Makes Ray Tune take a trial's process that Ray killed for its memory as one that died, in the block.

    Tune 2.60 does not know that error, and ends with a RuntimeError, all trials with it. Without Ray's
    `RayActorManager`: it does so here too.
    """
    try:
        from ray.air.execution._internal.actor_manager import RayActorManager
    except ImportError:
        yield
        return
    take = RayActorManager._actor_task_failed

    def take_kills_too(self: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, OutOfMemoryError):
            exception = MemoryKillError(first_line(exception))
        take(self, tracked_actor_task, exception)

    RayActorManager._actor_task_failed = take_kills_too
    try:
        yield
    finally:
        RayActorManager._actor_task_failed = take
