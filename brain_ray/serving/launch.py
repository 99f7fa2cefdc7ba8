"""Puts the endpoint on the air: on the cluster that runs already, or on one of its own."""

import argparse
import hashlib
import logging
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import tyro

from brain_ray.runs import RunError, refuse_keys_in
from brain_ray.serving.proxy import mend_error_page, proxy_settings
from brain_ray.serving.settings import ServingConfig

KEYS_VARIABLE = "BRAIN_RAY_API_KEYS"
"""Environment variable with API keys, separated by commas, spaces or line breaks."""

LOCAL = ("127.0.0.1", "localhost", "::1")


def main(argv: Sequence[str]) -> None:
    """Do what the command line says, until it is interrupted where the cluster is this process's own.

    Raises:
        RunError: keys in a URI, a bundle that must not be served, no keys in a file of keys, a port in use.
        SystemExit: a wrong command line, or `--help`.
    """
    refuse_keys_in(argv)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--api-keys-file")
    finder.add_argument("--write-config")
    given, rest = finder.parse_known_args(list(argv))
    config = tyro.cli(
        ServingConfig,
        args=rest,
        prog="serve.py",
        description=(
            "Serve a bundle: HTTP API and page. Also --api-keys-file FILE (one key a line; or the variable "
            f"{KEYS_VARIABLE}), and --write-config FILE (for `serve run` and `serve deploy`; serves nothing)."
        ),
        config=(tyro.conf.FlagConversionOff,),
    )
    config = config.model_copy(
        update={"api_keys_sha256": config.api_keys_sha256 + _keys(given.api_keys_file)}
    )
    if given.write_config:
        Path(given.write_config).write_text(serve_config(config))
        print(f"written: {given.write_config}; serve run {given.write_config}")
        return
    launch(config)


def launch(config: ServingConfig) -> None:
    """Put the endpoint on the air. Returns at once if a cluster was there already, else when interrupted.

    Raises:
        RunError: a bundle that must not be served, or a port in use.
    """
    _try_bundles(config)
    # A short path: the name of a socket has 97 characters at most, and Ray puts a node's 56 into it.
    with tempfile.TemporaryDirectory(prefix="br-", dir="/tmp") as folder:
        own = _connect(Path(folder))
        if own:
            config = _with_port(config)
        _run(config)
        url = f"http://{config.host}:{config.port}"
        if not own:
            print(f"deployed on the running cluster: {config.bundle}")
            return
        print(f"serves {config.bundle}\nmetrics {_metrics_url()} (Prometheus)")
        print(f"page {url}/  API {url}/docs  (Ctrl-C ends)", flush=True)
        if config.host not in LOCAL and not config.api_keys_sha256:
            print("warning: everybody who reaches this address is let in; set API keys", flush=True)
        _wait()
        print("ends when what was accepted is answered", flush=True)
        _stop(folder)


def serve_config(config: ServingConfig) -> str:
    """Return the Serve config file, YAML, of an endpoint."""
    import yaml

    content = {
        "proxy_location": "HeadOnly",
        "http_options": {"host": config.host, "port": config.port or 8000},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": "brain_ray",
                "route_prefix": "/",
                "import_path": "brain_ray.serving.app:build",
                "args": config.model_dump(mode="json", exclude_defaults=True),
            }
        ],
    }
    text: str = yaml.safe_dump(content, sort_keys=False)
    return (
        "# serve run FILE, or serve deploy FILE on a running cluster. With RAY_SERVE_ENABLE_HA_PROXY=1 and\n"
        "# RAY_SERVE_THROUGHPUT_OPTIMIZED=1, set before Ray starts, it answers several times the requests.\n"
        + text
    )


def _keys(file: str | None) -> tuple[str, ...]:
    """Return the SHA-256 of each key of a file and of the environment."""
    text = os.environ.get(KEYS_VARIABLE, "").replace(",", " ")
    if file:
        try:
            content = Path(file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"cannot read the API keys of {file}: {error}") from error
        if not content.split():
            raise RunError(f"{file} holds no API key: expected one a line")
        text += "\n" + content
    return tuple(hashlib.sha256(key.encode()).hexdigest() for key in text.split())


def _try_bundles(config: ServingConfig) -> None:
    """Have each bundle give the expected answers, before anything on the air is touched."""
    from brain_ray.model.predictor import Predictor

    for bundle in filter(None, [config.bundle, config.challenger]):
        Predictor(bundle, gpu=False).check_canaries()


def _connect(folder: Path) -> bool:
    """Join the cluster of RAY_ADDRESS or of `ray start`, else start one; tell whether it is our own."""
    named = os.environ.get("RAY_ADDRESS", "local") != "local"
    if named and (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray looks for its token only then
    if not named:
        for name, value in proxy_settings(folder).items():
            os.environ.setdefault(name, value)  # before Ray Serve is imported: it reads them then
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    options = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        ray.init(include_dashboard=None if named else False, **options)
    except ConnectionError as error:
        where = os.environ["RAY_ADDRESS"]
        raise RunError(
            f"no Ray cluster answers at {where} (RAY_ADDRESS), or it wants another token: {error}"
        ) from error
    node = ray._private.worker._global_node  # nothing public tells it
    return bool(node and node.head)


def _run(config: ServingConfig) -> None:
    from ray import serve
    from ray.serve.config import ProxyLocation

    from brain_ray.serving.app import NAME, build

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    serve.start(
        proxy_location=ProxyLocation.HeadOnly,
        http_options={"host": config.host, "port": config.port},
        logging_config={"enable_access_log": False},
    )
    mend_error_page()
    try:
        serve.run(build(config.model_dump(mode="json")), name=NAME, route_prefix="/")
    except RuntimeError as error:
        first = str(error).strip().splitlines()[0]
        raise RunError(f"{config.bundle} was not put on the air, what was there stays: {first}") from error


def _metrics_url() -> str:
    """Return where the metrics of this node's replicas are to be had."""
    import ray

    node = ray.nodes()[0]
    return f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def _with_port(config: ServingConfig) -> ServingConfig:
    """Choose a port where 0 is asked for, and see that the one that is asked for is free."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            where = f"{config.host}:{config.port}"
            raise RunError(f"cannot listen on {where}: {error.strerror}; choose another --port") from error
        return config.model_copy(update={"port": probe.getsockname()[1]})


def _wait() -> None:
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()


def _stop(folder: str) -> None:
    import psutil
    import ray
    from ray import serve

    from brain_ray.serving.app import NAME

    # Replicas finish what they accepted; serve.shutdown would take the proxy away first, and print errors.
    serve.delete(NAME)
    ray.shutdown()
    for process in psutil.process_iter(["cmdline"]):  # the proxy outlives its actor, and would keep the port
        if any(folder in word for word in process.info["cmdline"] or ()):
            process.terminate()
