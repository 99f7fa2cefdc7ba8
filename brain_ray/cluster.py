"""The way to a Ray cluster: the one that is named, or a local one; and no noise from either."""

import logging
import os
import re
import signal
import threading
from typing import NoReturn

import ray

from brain_ray.runs import RunError

WORKER_ENV = {
    # Workers print what they have to say through the driver; frameworks' INFO lines are not that.
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "RAY_TRAIN_ENABLE_STATE_TRACKING": "0",
    # Ray Train takes one report of each worker every so many seconds: an epoch cannot be shorter. By default,
    # 2; epochs on cached features take less.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    "PYTHONWARNINGS": "ignore",
    # A group that counted on a node just lost is planned anew after 10 s instead of 60.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "10",
}
"""Environment variables of every worker process."""


def connect() -> None:
    """Connect to the cluster of RAY_ADDRESS or of the submitted job, else start Ray on this machine.

    A cluster that `ray start` has started on this machine counts as named, as with any `ray.init`. Does
    nothing when the process is connected already, as tests are.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not ray.is_initialized():
        ray.init(
            address=os.environ.get("RAY_ADDRESS"),
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if "RAY_ADDRESS" not in os.environ else None,
            runtime_env={"env_vars": WORKER_ENV},
        )
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)  # for which Ray would print the C stack
    quiet()


def join() -> None:
    """Connect to a cluster that runs already: that of RAY_ADDRESS, else the one on this machine.

    Raises:
        RunError: there is none.
    """
    if not ray.is_initialized():
        address = os.environ.get("RAY_ADDRESS", "auto")
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            where = "on this machine" if address == "auto" else f"at {address}"
            raise RunError(f"no Ray cluster runs {where}: set RAY_ADDRESS to the one that trains") from error
    quiet()


def _interrupt(*_: object) -> NoReturn:
    """Take SIGTERM, which `ray job stop` sends, as Ctrl-C."""
    raise KeyboardInterrupt


def quiet() -> None:
    """Turn off the progress bars and INFO lines of Ray Data and Ray Train in this process."""
    from ray._private.ray_logging import stdout_deduplicator
    from ray.data import DataContext

    if stdout_deduplicator.skip_re is None:  # else RAY_DEDUP_LOGS_SKIP_REGEX is set, which is read too early
        # A handful of idle actors is nothing to warn of, and on two CPUs eight are "large".
        stdout_deduplicator.skip_re = re.compile("worker processes have been started on node")

    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    for name in ("ray.data", "ray.train", "ray.tune", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)


def cpus() -> int:
    """Return the CPUs of the cluster."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))
