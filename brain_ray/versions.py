"""Versions of packages, without importing them."""

import platform
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from brain_ray import __version__


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Returns the versions of Python, of brain_ray, and of those packages that are installed, by name."""
    found = {"python": platform.python_version(), "brain-ray": __version__}
    for name in packages:
        with suppress(PackageNotFoundError):  # a machine may have another build, such as opencv-python
            found[name] = version(name)
    return found
