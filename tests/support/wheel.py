"""The built wheel, installed into an environment of its own, and its programs, which know of no checkout."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from support.jobs import ROOT, launch


def install(folder: Path) -> Path:
    """Build a wheel of a copy of the checkout and install it; other packages are this Python's own."""
    source, home = folder / "source", folder / "environment"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "brain_ray", source / "brain_ray", ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--no-cache-dir"]
    offline = ["--no-deps", "--no-index"]
    build = [*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(build, check=True)
    (wheel,) = folder.glob("brain_ray-*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    # As plain paths: .pth files in these folders, which may say where an editable brain_ray is, are not read.
    shared = [path for path in sys.path if Path(path).name == "site-packages"]
    (packages / "shared.pth").write_text("\n".join(shared) + "\n")
    target = ["--python", str(home / "bin" / "python")]
    subprocess.run([*pip, *target, "install", *offline, "--ignore-installed", str(wheel)], check=True)
    return home


def begin(environment: Path, folder: Path, *words: str) -> "subprocess.Popen[str]":
    """Start a program of the environment in an empty folder, in a process group of its own."""
    program = str(environment / "bin" / words[0])
    return launch(folder, folder, program, *words[1:], unset="PYTHONPATH", stderr=subprocess.PIPE)


def call(environment: Path, folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run a program of the environment in an empty folder to its end."""
    with begin(environment, folder, *words) as process:
        try:
            out, errors = process.communicate(timeout=900)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(words, process.returncode, out, errors)
