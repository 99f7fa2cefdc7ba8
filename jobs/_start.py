"""Starts the job of a script; where this Python lacks what it needs, says in a line which one to use."""

import shlex
import sys
from pathlib import Path

ENVIRONMENT = Path(__file__).resolve().parents[1] / ".venv"


def start(name):  # without newer syntax, which a Python that is too old could not read
    """Do a job of `brain_ray.jobs`, and end this process with its exit code."""
    try:
        if sys.version_info < (3, 11):  # noqa: UP036
            raise ImportError("Python {}.{} is too old".format(*sys.version_info))
        import brain_ray.cli  # noqa: F401  # which imports what all jobs need
        from brain_ray.jobs import run
    except ImportError as error:
        words = " ".join(shlex.quote(word) for word in [str(ENVIRONMENT / "bin" / "python"), *sys.argv])
        missing = "" if ENVIRONMENT.exists() else f"`make install` in {ENVIRONMENT.parent}, then "
        sys.exit(f"error: {sys.executable} cannot run this job ({error}): {missing}{words}")
    sys.exit(run(name, Path(sys.argv[0]).name, sys.argv[1:]))
