"""Runtime environment of a submitted job: its packages come from the cluster's image or from
constraints.txt."""

import hashlib
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from brain_ray.checks import packages
from brain_ray.config import BACKBONES, Config
from brain_ray.errors import RunError
from brain_ray.logs import log

CONSTRAINTS = "${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"
"""Path of the file in a job's working directory, written so that pip and Ray's uv expand it on each node."""

CHECK_TIMEOUT_S = 120.0
"""Seconds that the check of the cluster's image may take."""

INSTALL_S = 1800
"""Seconds that Ray may take to install packages on a node: TensorFlow alone is 600 MB."""


def extras_of(config: Config | None) -> tuple[str, ...]:
    """Returns the extras of pyproject.toml that a job's settings need."""
    if config is None:
        return ()
    backbones = {config.model.backbone, *re.findall(r"\w+", " ".join(config.sweep.space))}
    wanted = {
        "gpu": config.train.use_gpu,
        "lite": any(spec.weights_package and name in backbones for name, spec in BACKBONES.items()),
        "optuna": config.sweep.sampler == "optuna",
        "mlflow": config.train.mlflow_uri not in ("auto", "none"),
    }
    return tuple(name for name, needed in wanted.items() if needed)


def installed_by(tool: str, root: Path, extras: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the runtime environment in which Ray installs missing packages, with `pip` or `uv`."""
    wanted = packages.requirements(root, extras)
    digest = hashlib.sha256((root / "constraints.txt").read_bytes()).hexdigest()
    # Ray installs anew when these lines change; the comment makes them change with constraints.txt.
    lines = [*wanted, f"-c {CONSTRAINTS}", f"# constraints.txt {digest[:12]}"]
    return {tool: {"packages": lines}, "config": {"setup_timeout_seconds": INSTALL_S}}


def decide(
    client: Any,
    working_dir: dict[str, Any],
    root: Path,
    choice: str,
    extras: tuple[str, ...],
    job: str,
) -> dict[str, Any]:
    """Returns what a job's runtime environment needs besides its files; logs a line about the decision.

    With `auto`, a small job first checks the image. pip is then preferred to uv, because uv does not see the
    image's packages and installs all of them, including Ray, and again whenever a file of the upload changes.

    Raises:
        RunError: the image could not be checked.
    """
    if choice == "image":
        return {}
    lacks = ""
    if choice == "auto":
        lacks, unasked = check_image(client, working_dir, extras)
        if not lacks:
            log.info(f"job {job}: the image has what is needed{unasked}")
            return {}
    tool = "pip" if choice == "auto" else choice
    number = len(packages.requirements(root, extras))
    often = (
        "once per node" if tool == "pip" else "on each node, and again when a file of the upload has changed"
    )
    reason = f"; the image lacks: {lacks}" if lacks else ""
    log.info(f"job {job}: installs {number} packages and what they need with {tool}, {often}{reason}")
    return installed_by(tool, root, extras)


def check_image(client: Any, working_dir: dict[str, Any], extras: tuple[str, ...]) -> tuple[str, str]:
    """Compares the image with constraints.txt by a job, which runs on the head node, as jobs do by default.

    Returns the missing packages, or "", and `packages.UNASKED`, or "".

    Raises:
        RunError: the job did not run, or took too long, or Python is too old.
    """
    command = " ".join(["python -m brain_ray.checks.packages", *extras])
    probe = client.submit_job(entrypoint=command, runtime_env=working_dir, metadata={"job": "packages"})
    end = time.monotonic() + CHECK_TIMEOUT_S
    while not (info := client.get_job_info(probe)).status.is_terminal():
        if time.monotonic() > end:
            client.stop_job(probe)
            raise RunError(
                f"the cluster did not start a small job ({probe}) within {CHECK_TIMEOUT_S:.0f} s: see what "
                "it waits for on its dashboard, or say --environment image"
            )
        time.sleep(0.5)
    said = [line.strip() for line in client.get_job_logs(probe).splitlines() if line.strip()]
    client.delete_job(probe)
    last = said[-1] if said else " ".join(str(info.message).split())[:300]
    if info.driver_exit_code == 0:
        return "", packages.UNASKED if last.endswith(packages.UNASKED) else ""
    if last.startswith(packages.LACKS):
        return last.removeprefix(packages.LACKS), ""
    raise RunError(f"the cluster's Python cannot run brain_ray, which needs 3.11 or newer: {last}")
