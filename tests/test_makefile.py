"""The Makefile: which Python it takes, what it says where there is none, and what `make clean` leaves."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOLS = ("make", "sh", "touch", "mkdir", "cat", "chmod", "rm", "cp", "find", "grep")

PYTHON = """#!/bin/sh
case "$1" in
    -c) exit {works} ;;
    --version) echo "Python {name}" ;;
    -m) mkdir -p .venv && cp -R ../installers .venv/bin ;;
esac
"""
"""A Python that can do no more than what the Makefile asks of it."""

INSTALLER = """#!/bin/sh
case "$*" in
    *"config list"*) cat ../pip.conf ;;
    *" -e "*) echo "$0" >> ../installs; exit $(cat ../{name}.exit) ;;
esac
"""
"""What the environment then has as its `python`, whose pip may install, and as `uv`."""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the Makefile, and one with the programs on the path, without any Python."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found
        (tmp_path / "bin" / tool).symlink_to(found)
    (tmp_path / "installers").mkdir()
    (tmp_path / "pip.conf").touch()
    for name in ("python", "uv"):
        path = tmp_path / "installers" / name
        path.write_text(INSTALLER.format(name=name))
        path.chmod(0o755)
        (tmp_path / f"{name}.exit").write_text("0")
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def add(checkout: Path, name: str, *, works: bool = True) -> Path:
    """Put a Python on the path; without `works`, one of those that cannot make an environment."""
    path = checkout.parent / "bin" / name
    path.write_text(PYTHON.format(name=name.removeprefix("python"), works=0 if works else 1))
    path.chmod(0o755)
    return path


def make(checkout: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": str(checkout.parent / "bin")}
    for name in ("PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    return subprocess.run(
        ["make", *words], cwd=checkout, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("there", "broken", "words", "taken"),
    [
        (["python3.11", "python3.12"], [], [], "3.11"),
        (["python3.12", "python3.13"], [], [], "3.12"),
        (["python3.13"], ["python3.11"], [], "3.13"),
        (["python3.11", "python3.14"], [], ["PYTHON=python3.14"], "3.14"),
    ],
)
def test_the_first_python_that_works_is_taken_and_named(
    there: list[str], broken: list[str], words: list[str], taken: str, checkout: Path
) -> None:
    for name in there:
        add(checkout, name)
    for name in broken:
        add(checkout, name, works=False)
    done = make(checkout, "install", *words)
    assert done.returncode == 0, done.stderr
    path = checkout.parent / "bin" / f"python{taken}"
    assert done.stdout.startswith(f"installing into .venv with Python {taken}, {path}: ")
    assert done.stdout.count("\n") == 1
    assert (checkout / ".venv" / ".installed").exists()
    assert make(checkout, "install").stdout.startswith("make: Nothing to be done")
    (checkout / ".venv" / ".installed").unlink()
    assert make(checkout, "install").stdout == "updating .venv\n", (
        "not with another Python's files among its own"
    )


@pytest.mark.parametrize(
    ("settings", "uv_ends_with", "tried"),
    [
        ("", 0, ["uv"]),
        ("global.extra-index-url='https://more'\nglobal.find-links='/wheels'", 0, ["uv"]),
        ("global.index-url='https://mirror/simple'", 0, ["python"]),
        (":env:.index-url='https://mirror/simple'", 0, ["python"]),
        ("install.no-index='true'", 0, ["python"]),
        ("global.proxy='http://proxy:3128'", 0, ["python"]),
        ("", 2, ["uv", "python"]),
    ],
)
def test_uv_installs_unless_pip_has_an_index_or_a_proxy_of_its_own(
    settings: str, uv_ends_with: int, tried: list[str], checkout: Path
) -> None:
    add(checkout, "python3.11")
    (checkout.parent / "pip.conf").write_text(settings)
    (checkout.parent / "uv.exit").write_text(str(uv_ends_with))
    done = make(checkout, "install")
    assert done.returncode == 0, done.stderr
    assert (checkout.parent / "installs").read_text().split() == [f".venv/bin/{name}" for name in tried]


def test_an_installation_that_failed_is_none(checkout: Path) -> None:
    add(checkout, "python3.11")
    for name in ("python", "uv"):
        (checkout.parent / f"{name}.exit").write_text("1")
    assert make(checkout, "install").returncode == 2
    assert not (checkout / ".venv" / ".installed").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [([], "python3.11 python3.12 python3.13"), (["PYTHON=python3.14"], "python3.14")],
)
def test_without_a_python_it_says_what_brings_one(words: list[str], named: str, checkout: Path) -> None:
    add(checkout, "python3.12", works=False)
    done = make(checkout, "install", *words)
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"none of these is a Python with venv: {named}. Install one (Debian, Ubuntu: "
    )
    assert "apt-get install python3-venv" in done.stderr
    assert not (checkout / ".venv").exists()


def test_clean_leaves_trained_models(checkout: Path) -> None:
    gone = (".venv/bin", "build/lib", "brain_ray.egg-info", ".mypy_cache", "brain_ray/data/__pycache__")
    for name in (*gone, "runs/b0/bundle", "jobs", "tests", "benchmarks"):
        (checkout / name).mkdir(parents=True)
    done = make(checkout, "clean")
    assert done.returncode == 0, done.stderr
    assert not any((checkout / name).exists() for name in gone)
    assert (checkout / "runs" / "b0" / "bundle").is_dir()
    assert (checkout / "brain_ray" / "data").is_dir()
