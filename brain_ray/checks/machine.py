"""Checks of one machine: Python, packages, disk, and the GPUs that TensorFlow and ONNX Runtime see."""

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from brain_ray import cuda
from brain_ray.checks import packages
from brain_ray.checks.finding import Finding

GIB = 2**30

FREE_GIB = 5.0
"""Free disk in GiB for Ray's temporary folder: logs, spilled objects, copies of checkpoints."""

TENSORFLOW_TIMEOUT_S = 120.0
"""Seconds that TensorFlow may take to report its GPUs."""


def facts() -> dict[str, Any]:
    """Returns facts of this machine: those that must be equal on all machines of a cluster, and its
    resources."""
    temporary = tempfile.gettempdir()
    return {
        "python": platform.python_version(),
        "versions": {name: version_of(name) for name in sorted(required())},
        "free_gib": shutil.disk_usage(temporary).free / GIB,
        "temporary": temporary,
        "shm_gib": shutil.disk_usage("/dev/shm").total / GIB if Path("/dev/shm").is_dir() else None,
        "cuda_cache": cuda.cache(),
    }


def required() -> dict[str, Requirement]:
    """Returns the requirements of brain_ray by name, from the folder that jobs carry along, or from the
    package."""
    try:
        lines = packages.requirements(packages.ROOT)
    except FileNotFoundError:
        lines = requires("brain-ray") or []
    found = [Requirement(line) for line in lines]
    return {each.name: each for each in found if each.marker is None or each.marker.evaluate({"extra": ""})}


def version_of(name: str) -> str | None:
    """Returns the version of a package that is installed here; None if it is not."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def check_python() -> Finding:
    """Reports the Python version; one that is too old cannot import this module."""
    return Finding("python", "ok", f"{platform.python_version()} at {sys.executable}")


def check_packages() -> list[Finding]:
    """Checks that the requirements of brain_ray are installed, and no package that is known to break it."""
    wrong = []
    needed = required()
    for name, requirement in needed.items():
        found = version_of(name)
        if found is None:
            wrong.append(f"{name} is missing")
        elif not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{name} is {found}, expected {requirement.specifier}")
    shown = ", ".join(f"{name} {version_of(name)}" for name in ("ray", "tensorflow", "keras", "onnxruntime"))
    cure = "pip install -c constraints.txt -e ."
    if wrong:
        installed = Finding("packages", "error", "; ".join(wrong), cure)
    else:
        installed = Finding("packages", "ok", f"{shown} and {len(needed) - 4} others, all as required")
    return [installed, *_known_bad()]


def _known_bad() -> list[Finding]:
    """Returns warnings of combinations that install without an error and fail, or mislead, later."""
    found = []
    if version_of("opencv-python") and version_of("opencv-python-headless"):
        found.append(
            Finding(
                "packages",
                "warning",
                "opencv-python and opencv-python-headless both bring cv2, one over the other",
                "pip uninstall opencv-python, then reinstall opencv-python-headless",
            )
        )
    if version_of("onnxruntime") and version_of("onnxruntime-gpu"):
        found.append(
            Finding(
                "packages",
                "warning",
                "onnxruntime and onnxruntime-gpu both bring onnxruntime: which one is imported is luck",
                "uninstall both, then install the one that fits the machine",
            )
        )
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        found.append(Finding("keras", "error", f"KERAS_BACKEND is {backend}", "unset KERAS_BACKEND"))
    if os.environ.get("TF_USE_LEGACY_KERAS", "0") not in ("", "0"):
        found.append(
            Finding(
                "keras",
                "warning",
                "TF_USE_LEGACY_KERAS is set: tf.keras is not the Keras 3 that brain_ray uses",
                "unset TF_USE_LEGACY_KERAS",
            )
        )
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        found.append(
            Finding(
                "token",
                "warning",
                "RAY_AUTH_MODE is disabled: everybody who reaches this Ray can run code on it",
                "unset it, or set it to token",
            )
        )
    return found


def check_disk(found: dict[str, Any], where: str) -> Finding:
    """Checks the free disk of a machine, from its facts."""
    text = f"{found['free_gib']:.0f} GiB free in {found['temporary']} {where}"
    if found["free_gib"] < FREE_GIB:
        return Finding(
            "disk",
            "warning",
            text,
            f"make room to {FREE_GIB:.0f} GiB, or start Ray with --temp-dir elsewhere",
        )
    return Finding("disk", "ok", text)


def see_gpus() -> dict[str, Any]:
    """Returns the GPUs seen by a separate process: `tensorflow`, their number, and `onnxruntime`, its
    providers.

    `reason` says why TensorFlow sees no GPU, "" if it sees one; `capabilities` are the GPUs' compute
    capabilities, `compiled` those that TensorFlow has machine code for, and `driver` is the driver's version.
    If the process fails, there are only `error` and `wheels`, the phrases of `wrong_wheels`.

    The process is separate because TensorFlow would reserve the GPUs, and because a crash in a CUDA library
    would end this process.
    """
    code = (
        "from brain_ray import cuda\n"
        "from brain_ray.models.keras_import import import_keras\n"
        "cuda.preload()\n"
        "import_keras()\n"
        "import json, tensorflow as tf, onnxruntime as ort\n"
        "gpus = tf.config.list_physical_devices('GPU')\n"
        "details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]\n"
        "print(json.dumps({'tensorflow': len(gpus), 'onnxruntime': ort.get_available_providers(),"
        " 'reason': '' if gpus else cuda.why_no_gpu(), 'driver': cuda.driver_version(),"
        " 'capabilities': [each.get('compute_capability', (0, 0)) for each in details],"
        " 'compiled': tf.sysconfig.get_build_info().get('cuda_compute_capabilities', [])}))\n"
    )
    hidden = {"CUDA_VISIBLE_DEVICES"}  # which Ray empties for a task without a GPU of its own
    paths = [str(packages.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    own = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": os.pathsep.join(paths)}
    environment = {k: v for k, v in os.environ.items() if k not in hidden} | own
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TENSORFLOW_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"did not answer within {TENSORFLOW_TIMEOUT_S:.0f} s", "wheels": wrong_wheels()}
    try:
        seen: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (ValueError, IndexError):
        lines = [line for line in done.stderr.splitlines() if re.match(r"\w*(Error|Exception)\b", line)]
        seen = {"error": (lines or ["ended without a word"])[-1]}
    return {**seen, "wheels": wrong_wheels()}


def wrong_wheels(root: Path = packages.ROOT) -> list[str]:
    """Returns which packages, CUDA's wheels of the extra `gpu` among them, are missing here or have another
    version than constraints.txt, a phrase each; none where that file is not at hand, as in an installed
    package."""
    try:
        return packages.differences(root, ["gpu"])
    except FileNotFoundError:
        return []
