"""Job serve: deploys the endpoint on a running cluster, or on a cluster of its own."""

import atexit
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from brain_ray import logs
from brain_ray.errors import RunError
from brain_ray.logs import log
from brain_ray.serving.api_keys import KEYS_VARIABLE, hash_keys
from brain_ray.serving.config import ServingConfig
from brain_ray.serving.haproxy import describe_out_of_reach, front_settings, listening_on, mend_error_page
from brain_ray.serving.hosts import LOOPBACK_NAMES
from brain_ray.serving.serve_config import pin_models, serve_config, try_out
from brain_ray.serving.shutdown import drain, end, find_proxies, has_ended
from brain_ray.storage import refuse_keys_in
from brain_ray.usage import OneLineParser, read_settings

JOB_OPTIONS = ("--api-keys-file", "--no-api-keys", "--write-config")
"""Options that are no settings of the endpoint."""

OWN_OPTIONS = f"""\
Besides the settings below:
  --api-keys-file FILE  file with the API keys that have access, one per line (default: {KEYS_VARIABLE})
  --no-api-keys         deploy without keys, even if the running endpoint has some
  --write-config FILE   write a config for `serve run` and `serve deploy` to FILE, and serve nothing"""


KEY_CHECK_TIMEOUT_S = 20.0
"""Seconds that a running endpoint may take to answer whether it has API keys."""


@logs.to_console()
def main(argv: Sequence[str], purpose: str = "", prog: str = "serve.py") -> None:
    """Does what the command line says, until it is interrupted where the cluster is this process's own.

    Args:
        argv: the words of the command line.
        purpose: text on what the job is for.
        prog: the command as typed, before the words.

    Raises:
        RunError: keys in a URI, a bundle that must not be served, no usable keys though keys are required, a
            running endpoint that would lose its keys, or a port in use.
        UsageError: a wrong command line.
        SystemExit: after `--help`, or an option of the three below without its value.
    """
    refuse_keys_in(argv)
    finder = OneLineParser(add_help=False)
    finder.add_argument("--api-keys-file")
    finder.add_argument("--no-api-keys", action="store_true")
    finder.add_argument("--write-config")
    given, rest = finder.parse_known_args(list(argv))
    config = read_settings(ServingConfig, rest, prog, "\n\n".join([purpose, OWN_OPTIONS]), more=JOB_OPTIONS)
    config = config.model_copy(
        update={"api_keys_sha256": config.api_keys_sha256 + hash_keys(given.api_keys_file)}
    )
    if given.no_api_keys and config.api_keys_sha256:
        raise RunError("--no-api-keys is given, and API keys as well: expected one or the other")
    config = pin_models(config)
    if given.write_config:
        Path(given.write_config).write_text(serve_config(config))
        log.info(f"written: {given.write_config}; serve run {given.write_config}")
        if not config.api_keys_sha256:
            log.warning(f"{given.write_config} holds no API keys, and takes those of a running endpoint away")
        return
    launch(config, may_open=given.no_api_keys)


def launch(config: ServingConfig, *, may_open: bool = False) -> None:
    """Puts the endpoint on the air. Returns at once if a cluster was there already, else when interrupted.

    Args:
        config: the endpoint.
        may_open: whether a running endpoint's API keys may be replaced by none.

    Raises:
        RunError: a bundle that must not be served, a running endpoint that would lose its keys, or a port in
            use.
    """
    from brain_ray.cluster import connection

    if connection.starts_here():
        _with_port(config)  # checked before Ray is started, which takes a while
    try_out(config)
    # A short path: the name of a socket has 97 characters at most, and Ray puts a node's 56 into it.
    with tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder:
        if not _connect(Path(folder)):
            _deploy(config, may_open)
            return
        import ray

        parts = psutil.Process().children()  # Ray's own; none ends before the others
        try:
            _serve(_with_port(config))
            drain(parts, folder)
        finally:
            gone = has_ended(parts)
            if gone:
                atexit.unregister(ray.shutdown)  # it would wait for Ray for a minute
            else:
                ray.shutdown()
            end(find_proxies(folder))  # they outlive their actor, and would keep the port
    if gone:
        sys.stdout.flush()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        os._exit(0)  # before Ray's threads report that the other processes are gone


def _connect(folder: Path) -> bool:
    """Joins the cluster of RAY_ADDRESS or of `ray start`, else starts one; returns whether it is our own."""
    from brain_ray.cluster import connection

    if connection.starts_here():
        for name, value in front_settings(folder).items():
            os.environ.setdefault(name, value)  # before Ray Serve is imported, which reads them
    own = connection.start_or_join()
    import ray.serve  # noqa: F401  # which sets the level of its logger

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if own:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # until requests are accepted
    return own


def _deploy(config: ServingConfig, may_open: bool) -> None:
    """Replaces what a running cluster serves, or begins to serve on it."""
    if not config.api_keys_sha256 and not may_open:
        _refuse_to_drop_keys()
    put_on_air(config)
    host, port = listening_on()
    log.info(f"deployed on the running cluster: {config.bundle}; it listens on {host}:{port}")
    there = {"host": host, "port": port}
    if there | config.model_dump(include=set(there), exclude_defaults=True) != there:
        log.warning("that is where Ray Serve listened before: it moves only if it is ended (serve shutdown)")
    if out_of_reach := describe_out_of_reach(host or ""):
        log.warning(out_of_reach)
    if not config.api_keys_sha256:
        log.warning("it has no API keys: everybody who reaches the cluster's endpoint is let in")


def _refuse_to_drop_keys() -> None:
    """Checks that a running endpoint has no API keys, because its replacement has none.

    Raises:
        RunError: it has keys, or does not answer.
    """
    from ray import serve

    from brain_ray.serving.app import NAME

    cure = f"name them (--api-keys-file, {KEYS_VARIABLE}), or give --no-api-keys to let everybody in"
    if NAME not in serve.status().applications:
        return
    try:
        known = serve.get_app_handle(NAME).list_keys.remote().result(timeout_s=KEY_CHECK_TIMEOUT_S)
    except Exception as error:  # of Ray, of Serve or, from an older version of ours, of Python
        raise RunError(
            f"the endpoint on the air does not say whether it has API keys ({type(error).__name__}): {cure}"
        ) from error
    if known:
        raise RunError(f"the endpoint on the air has API keys ({len(known)}), and this one has none: {cure}")


def _serve(config: ServingConfig) -> None:
    """Serves on a cluster of our own, until interrupted."""
    put_on_air(config)
    url = f"http://{browser_host(config.host)}:{config.port}"
    log.info(f"serves {config.bundle}\nmetrics {_metrics_url()} (Prometheus)")
    log.info(f"page {url}/  API {url}/docs  (Ctrl-C ends)")
    if config.host not in LOOPBACK_NAMES and not config.api_keys_sha256:
        log.warning(f"everybody who reaches {config.host} is let in; set API keys")
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    log.info("ends when what was accepted is answered")


def browser_host(host: str) -> str:
    """Returns an address of this machine for a browser on it: those that mean all addresses lead nowhere."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{host}]" if ":" in host else host


def put_on_air(config: ServingConfig, start: Callable[..., None] | None = None) -> None:
    """Starts Serve's proxy and deploy the endpoint, in the place of what is on the air.

    Args:
        config: the endpoint.
        start: starts the proxy, as `ray.serve.start` does, which is the default.

    Raises:
        RunError: the proxy does not start, or the endpoint is not healthy: what was there stays.
    """
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.config import ProxyLocation

    from brain_ray.serving.app import NAME, build

    what = "the endpoint's proxy did not start (try again if the machine was busy)"
    try:
        (start or serve.start)(
            proxy_location=ProxyLocation.HeadOnly,
            http_options={"host": config.host, "port": config.port},
            logging_config={"enable_access_log": False},
        )
        mend_error_page()
        what = f"{config.bundle} was not put on the air, what was there stays"
        serve.run(build(config.model_dump(mode="json")), name=NAME, route_prefix="/")
    except (RuntimeError, TimeoutError, RayError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(f"{what}: {first}") from error


def _metrics_url() -> str:
    """Returns where the metrics of this node's replicas are to be had."""
    import ray

    node = ray.nodes()[0]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _with_port(config: ServingConfig) -> ServingConfig:
    """Chooses a port where 0 is asked for, and see that the one that is asked for is free."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise RunError(f"cannot listen on {where}: {error.strerror}; choose another --port") from error
        return config.model_copy(update={"port": probe.getsockname()[1]})
