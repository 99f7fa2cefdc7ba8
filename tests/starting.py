"""Jobs as a user starts them, on a cluster of their own, and their sudden end."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(folder: Path, *words: str, storage: str | None = None) -> "subprocess.Popen[str]":
    """Start a job, by the words of its command line, whose runs are in a folder, or in another storage."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    unset = ("RAY_ADDRESS", "PYTHONUNBUFFERED")  # lines come at once without the latter too
    environment = {k: v for k, v in os.environ.items() if k not in unset} | {"HOME": str(home)}
    return subprocess.Popen(
        [sys.executable, *words, "--storage", storage or str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )


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
