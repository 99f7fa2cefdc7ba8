"""Runs a module of this package in a process of its own, so that TensorFlow stays out of this one."""

import os
import subprocess
import sys
from pathlib import Path

from brain_ray.errors import RunError

QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "-1",  # a GPU may be busy with another run, and would change the numbers
}


def run_module(module: str, *arguments: Path) -> str:
    """Run a module in a fresh process and return what it printed; TensorFlow's own noise stays there.

    Raises:
        RunError: it failed; the text is the last line of its complaint.
    """
    root = str(Path(__file__).parents[2])  # this very package, also where Ray has brought it by itself
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        env=os.environ | QUIET | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = [line for line in done.stderr.splitlines() if line.strip()][-1:] or ["it said nothing"]
        raise RunError(f"{module} ended with code {done.returncode}: {last[0].strip()}")
    return done.stdout
