"""Check whether a machine has the packages of constraints.txt: python -m brain_ray.checks.packages
[EXTRA...].

Prints one line, and exits with 0 if all are installed, with 1 if one is missing or has another version. Runs
on machines that may have none of them: it imports only the standard library.
"""

import ast
import operator
import os
import platform
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

from brain_ray.cuda import DRIVER

ROOT = Path(__file__).parents[2]
"""Folder that a job carries to the cluster, with jobs/, brain_ray/, pyproject.toml and constraints.txt."""

LACKS = "lacks: "
"""Start of the printed line if a package is missing."""

UNASKED = (
    "; CUDA's libraries were not looked for, on a node that shows no NVIDIA driver: training ends at once "
    "where TensorFlow sees no GPU"
)
"""End of the printed line if the extra gpu is requested on a node without a GPU: a head node may need
none."""

HERE = {
    "implementation_name": sys.implementation.name,
    "os_name": os.name,
    "platform_machine": platform.machine(),
    "platform_python_implementation": platform.python_implementation(),
    "platform_system": platform.system(),
    "python_full_version": platform.python_version(),
    "python_version": ".".join(platform.python_version_tuple()[:2]),
    "sys_platform": sys.platform,
}
"""Values on this machine of the variables in requirements' markers (PEP 508)."""

COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}


def requirements(root: Path, extras: Iterable[str] = ()) -> list[str]:
    """Returns the requirements of pyproject.toml's project and of its extras, as they are written there."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(line for extra in extras for line in optional[extra])]


def pins(root: Path) -> dict[str, str]:
    """Returns the version of each package in constraints.txt, for this machine."""
    found = {}
    for line in (root / "constraints.txt").read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match and marker_holds(line):
            found[_plain(match[1])] = match[2]
    return found


def differences(root: Path = ROOT, extras: Iterable[str] = ()) -> list[str]:
    """Returns the required packages that are missing or have another version, one phrase each.

    A requirement with extras includes what they add: tensorflow[and-cuda] includes NVIDIA's wheels.
    """
    wanted = pins(root)
    found = []
    names = [name for line in requirements(root, extras) for name in _with_extras(line)]
    for plain, name in {_plain(name): name for name in names}.items():
        expected = wanted.get(plain)
        try:
            here = version(name)
        except PackageNotFoundError:
            found.append(f"{name} is missing")
            continue
        if expected and here != expected:
            found.append(f"{name} is {here}, expected {expected}")
    return found


def _with_extras(requirement: str) -> Iterator[str]:
    """Yields the package of a requirement and, if it is installed, the packages that its extras add,
    recursively."""
    match = re.match(r"([A-Za-z0-9._-]+)\s*(?:\[([^]]*)\])?", requirement)
    assert match is not None
    name, extras = match[1], match[2] or ""
    yield name
    with suppress(PackageNotFoundError):
        for extra in filter(None, re.split(r"[\s,]+", extras)):
            for line in requires(name) or ():
                if re.search(rf"""extra == ['"]{re.escape(extra)}['"]""", line) and marker_holds(line, extra):
                    yield from _with_extras(line)


def marker_holds(requirement: str, extra: str = "") -> bool:
    """Returns whether a requirement's marker (PEP 508), if it has one, is true on this machine.

    The marker is evaluated as the Python expression that it resembles; `~=` and `===` are not supported.
    """

    def value_of(node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(ast.And(), values):
                return all(map(value_of, values))
            case ast.BoolOp(ast.Or(), values):
                return any(map(value_of, values))
            case ast.Compare(left, [compare], [right]):
                names = {side.id for side in (left, right) if isinstance(side, ast.Name)}
                sides = [value_of(left), value_of(right)]
                if names & {"python_version", "python_full_version"}:
                    sides = [[int(number) for number in re.findall(r"\d+", side)] for side in sides]
                return COMPARE[type(compare)](*sides)
            case ast.Name(name):
                return here[name]
            case ast.Constant(text):
                return text
        raise ValueError(f"cannot read the marker of {requirement!r}")

    here = {**HERE, "extra": extra}
    marker = requirement.partition(";")[2].strip()
    return not marker or bool(value_of(ast.parse(marker, mode="eval").body))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main(extras: list[str], driver: Path = DRIVER) -> int:
    """Prints the `differences`, with the extra gpu only on a machine with a GPU, where the file `driver` is;
    returns the exit code."""
    unasked = "gpu" in extras and not driver.exists()
    found = differences(ROOT, [extra for extra in extras if extra != "gpu" or not unasked])
    print(f"{LACKS}{'; '.join(found)}" if found else f"all there{UNASKED if unasked else ''}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
