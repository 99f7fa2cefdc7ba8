"""Uses Ray's private APIs (2.60) for what no public one tells or does; without them, brain_ray does less.

Each function says what is lost where Ray has moved what it uses. tests/cluster/test_private.py calls them
with Ray's own, so that the day of an upgrade tells.
"""

import os
import re
import socket

from ray.exceptions import AuthenticationError


def running_address() -> str | None:
    """Address of the cluster that `ray start` has started on this machine, None if there is none.

    Without Ray's `read_ray_address`: None, so that a job starts a Ray of its own beside such a cluster, if
    RAY_ADDRESS does not name it.
    """
    try:
        from ray._private.utils import read_ray_address
    except ImportError:
        return None
    return read_ray_address() or None


def ask_head(address: str, timeout_s: float) -> None:
    """Asks a head node, as `host:port`, whether it is there and takes this process's token.

    `ray.init` needs 20 s to find that nothing answers, and does not tell that from a token that is refused.
    Without Ray's generated gRPC stubs: only whether something answers there is found out.

    Raises:
        ConnectionError: nothing answers there.
        AuthenticationError: it does not take what it was shown.
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
    """Folder with the logs of the Ray that this process has started, None if it has started none.

    Without Ray's `_global_node`: None, so that an error cannot name the folder.
    """
    import ray

    node = getattr(getattr(ray._private, "worker", None), "_global_node", None)
    path = getattr(node, "get_session_dir_path", None)
    return f"{path()}/logs" if path is not None and getattr(node, "head", False) else None


def show_token() -> None:
    """Makes this process, and those that it starts, show their token to clusters that want one.

    Ray reads RAY_AUTH_MODE once, when it is imported; its `Config.initialize` reads it again. Without that,
    only a process that sets RAY_AUTH_MODE before it imports Ray shows a token.
    """
    os.environ["RAY_AUTH_MODE"] = "token"
    try:
        from ray._raylet import Config  # type: ignore[attr-defined]
    except ImportError:
        return
    Config.initialize("")


def token_headers() -> dict[str, str]:
    """Headers of HTTP that show this machine's token to a cluster's dashboard, {} if it shows none.

    Without Ray's `get_auth_headers_if_auth_enabled`: {}, so that a dashboard that wants a token refuses.
    """
    try:
        from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    except ImportError:
        return {}
    return dict(get_auth_headers_if_auth_enabled({}))


def skip_lines(pattern: str) -> None:
    """Drops lines of workers that match a pattern from this process's output, unless the user names others.

    RAY_DEDUP_LOGS_SKIP_REGEX, the public way, is read when Ray is imported, which is too early. Without Ray's
    `stdout_deduplicator`: the lines are printed.
    """
    try:
        from ray._private.ray_logging import stdout_deduplicator
    except ImportError:
        return
    if getattr(stdout_deduplicator, "skip_re", "") is None:
        stdout_deduplicator.skip_re = re.compile(pattern)
