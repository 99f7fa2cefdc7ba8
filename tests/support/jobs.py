"""Jobs as a user starts them, on a cluster of their own, and their sudden end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def environment_of(home: Path | str, **more: str) -> dict[str, str]:
    """Environment variables of somebody at home there, who knows of no cluster unless `more` names one.

    Ray's workers have the priority of the tests; by default they would wait for whatever else computes.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), "RAY_worker_niceness": "0", **more}


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.2)


def launch(
    folder: Path, home: Path, *command: str, unset: str, stderr: int = subprocess.STDOUT
) -> "subprocess.Popen[str]":
    """Start a program in a folder, in a process group of its own; it knows of no cluster, nor a variable."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RAY_ADDRESS", unset)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        cwd=folder,
        env={**environment, "HOME": str(home)},
        start_new_session=True,
    )


def start(folder: Path, *words: str, storage: str | None = None) -> "subprocess.Popen[str]":
    """Start a job, by the words of its command line, whose runs are in a folder, or in another storage."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    command = [sys.executable, *words, "--storage", storage or str(folder)]
    return launch(folder, home, *command, unset="PYTHONUNBUFFERED")  # lines come at once without it too


def kill_at(process: "subprocess.Popen[str]", sign: str) -> str:
    """Read a process's output until a sign, then kill it and all that it started; return what it said."""
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if sign in line:
            os.killpg(process.pid, signal.SIGKILL)
            break
    process.wait()
    assert process.returncode == -signal.SIGKILL, "".join(said)
    return "".join(said)


def finish(process: "subprocess.Popen[str]") -> str:
    """Wait for a job's end, without an error; return what it said."""
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    return said
