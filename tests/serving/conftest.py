"""What the tests of the endpoint share: a small bundle that knows phantoms, and a running endpoint."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bundle import make_bundle
from support.endpoint import Running, start, stop


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tells phantoms apart, which no test may change."""
    return make_bundle(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def endpoint(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """An endpoint with one replica, the default limits and no keys."""
    running = start(bundle, tmp_path_factory.mktemp("home"))
    yield running
    stop(running)
