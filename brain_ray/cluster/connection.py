"""Connection to a Ray cluster, a named or a local one; also turns off Ray's own messages."""

import logging
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import AuthenticationError

from brain_ray.cluster import private
from brain_ray.cluster.sessions import mark_session, remove_old_sessions
from brain_ray.cluster.tokens import explain_refusal, make_token, use_token
from brain_ray.errors import RunError

WORKER_ENV = {
    # Workers' own messages reach the driver by other means; frameworks' INFO lines are noise.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    # Machine code that the driver compiles for GPUs newer than TensorFlow: all of it is kept, 4 GB of it.
    "CUDA_CACHE_MAXSIZE": "4294967296",
    "PYTHONWARNINGS": "ignore",
    # A group that was planned on a node just lost is planned anew after 10 s instead of 60.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
}
"""Environment variables of every worker process."""

LOCAL_ENV = {
    **WORKER_ENV,
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # no cloud takes this machine away
    # A worker without work waits a minute for more of it, and not a second: another would import Ray anew.
    "RAY_idle_worker_killing_time_threshold_ms": "60000",
}
"""Those of a Ray that is started on this machine, and of its workers."""

SOCKET = "/ray/session_2026-12-31_23-59-59_999999_4194304/sockets/plasma_store"
"""The longest path of a socket that Ray makes below its temporary folder."""

LONGEST_SOCKET = 107
"""Largest number of bytes in a socket's path on Linux."""

SLOW_START = "timed out during startup"
"""In Ray's message that a node was not there within 30 s, which no setting changes."""

HEAD_NODE_TIMEOUT_S = 5.0
"""Seconds within which a head node must answer."""


def connect() -> None:
    """Connects to the cluster of RAY_ADDRESS or of the submitted job, else starts Ray on this machine.

    A cluster that `ray start` has started on this machine counts as named, as with any `ray.init`. Does
    nothing if the process is connected already, as in tests.

    Raises:
        RunError: the named cluster does not answer, or refuses this machine's token; or Ray cannot be started
            here.
    """
    if not ray.is_initialized():
        start_or_join(WORKER_ENV, LOCAL_ENV)
        if threading.current_thread() is threading.main_thread():
            # Like Ctrl-C: `ray job stop` sends this signal, and Ray would print the C stack.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
    quiet()


def join() -> None:
    """Connects to a running cluster: that of RAY_ADDRESS, else the one on this machine.

    Raises:
        RunError: there is none, or it refuses this machine's token.
    """
    if not ray.is_initialized():
        _join(_named() or "auto")
    quiet()


def starts_here() -> bool:
    """Returns whether Ray has to be started: no cluster is named, and `ray start` has not started one
    here."""
    return _named() == "local" or (_named() is None and private.running_address() is None)


def start_or_join(
    worker_env: Mapping[str, str] | None = None, local_env: Mapping[str, str] | None = None
) -> bool:
    """Connects as `connect` does, with other variables for workers; returns whether Ray was started here.

    A Ray that is started here has `local_env` from this process, whose environment it inherits: a runtime
    environment costs each worker a second start of Python.

    Raises:
        RunError: the named cluster does not answer, or refuses this machine's token; or Ray cannot be started
            here.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = starts_here()
    if own:
        os.environ.update(local_env or {})
        _start()
    else:
        _join(_named(), runtime_env={"env_vars": dict(worker_env)} if worker_env else None)
    return own


def started_logs() -> str | None:
    """Returns the folder with the logs of the Ray that this process started; None if it started none."""
    return private.session_logs()


def _named() -> str | None:
    """Returns RAY_ADDRESS, the address of a cluster, `auto` or `local`; None if it is not set."""
    return os.environ.get("RAY_ADDRESS") or None


def _start() -> None:
    """Starts Ray on this machine."""
    # A worker with a runtime environment is started by bash, where Ray quotes only the options.
    quoted = shlex.quote(sys.executable)
    make_token()
    parent = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    too_long = len(os.fsencode(parent + SOCKET)) > LONGEST_SOCKET
    try:
        _init(
            "local",
            include_dashboard=False,
            runtime_env={"py_executable": quoted} if quoted != sys.executable else None,
            _temp_dir="/tmp/ray" if too_long else None,
        )
    except OSError as error:
        raise RunError(
            f"Ray cannot be started on this machine: {error}; it wants a temporary folder that can be "
            "written, which RAY_TMPDIR names (or TMPDIR, else /tmp)"
        ) from error
    except Exception as error:
        if SLOW_START not in str(error):  # Ray 2.60 raises an Exception of no class of its own
            raise
        raise RunError(
            "Ray did not start on this machine within its 30 s: other work keeps the CPUs or the disk busy; "
            "start again when they are free"
        ) from error
    logs = private.session_logs()
    if logs is not None:
        session = Path(logs).parent
        mark_session(session)
        remove_old_sessions(session.parent)


def _join(address: str | None, **options: Any) -> None:
    """Connects to a running cluster, after quick checks of faults that `ray.init` takes 20 seconds to
    find."""
    where = "on this machine" if address in (None, "auto") else f"at {address}"
    try:
        if _named():
            use_token()
            if re.fullmatch(r"(\[[^]]+\]|[^:/]+):\d+", str(address)):
                private.ask_head(str(address), HEAD_NODE_TIMEOUT_S)
        _init(address, **options)
    except AuthenticationError as error:
        what = "Ray on this machine" if address in (None, "auto") else str(address)
        raise RunError(": ".join(explain_refusal(what))) from error
    except ConnectionError as error:
        raise RunError(
            f"no Ray cluster runs {where}: start it, or set RAY_ADDRESS to one that runs"
        ) from error


def _init(address: str | None, **options: Any) -> None:
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)


def quiet() -> None:
    """Turns off the progress bars and INFO lines of Ray Data and Ray Train in this process."""
    from ray.data import DataContext

    # A handful of idle actors needs no warning, and on two CPUs eight are "large".
    private.skip_lines("worker processes have been started on node")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)
