"""Runs a module of this package in a subprocess, so that the caller never imports TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from brain_ray.errors import RunError

TENSORFLOW_ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU may be busy with another run, and would change the numbers
}


def run_module(module: str, *arguments: Path) -> str:
    """Runs a module in a new process; returns its standard output, without TensorFlow's messages.

    Raises:
        RunError: the process failed; the text is the last line of its error.
    """
    root = str(Path(__file__).parents[2])  # the folder of this package, also where Ray has brought it
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | TENSORFLOW_ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it said nothing"]
        raise RunError(f"{module} ended with code {done.returncode}: {last[0].strip()}")
    return done.stdout
