"""Whether a machine has the packages of constraints.txt: python -m brain_ray.operations.packages [EXTRA...].

Prints one line, and exits with 0 if they are there, with 1 if one is missing or of another version. Runs on
machines that may have none of them: it imports nothing but the standard library.
"""

import re
import sys
import tomllib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""Folder that a job takes to the cluster: with jobs/, brain_ray/, pyproject.toml and constraints.txt."""

LACKS = "lacks: "
"""What the line begins with where something is missing."""


def requirements(root: Path, extras: Iterable[str] = ()) -> list[str]:
    """Return what pyproject.toml's project requires, and what its extras add, as it is written there."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def pins(root: Path) -> dict[str, set[str]]:
    """Return the versions that constraints.txt names for each package: several where its markers differ."""
    found: dict[str, set[str]] = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match:
            found.setdefault(_plain(match[1]), set()).add(match[2])
    return found


def differences(root: Path = ROOT, extras: Iterable[str] = ()) -> list[str]:
    """List the required packages that are missing here or of another version, one phrase each."""
    wanted = pins(root)
    found = []
    for line in requirements(root, extras):
        name = re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0]
        expected = wanted.get(_plain(name), set())
        try:
            here = version(name)
        except PackageNotFoundError:
            found.append(f"{name} is missing")
            continue
        if expected and here not in expected:
            found.append(f"{name} is {here}, expected {' or '.join(sorted(expected))}")
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(extras: list[str]) -> int:
    """Print what `differences` finds; return the exit code."""
    found = differences(ROOT, extras)
    print(f"{LACKS}{'; '.join(found)}" if found else "all there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
