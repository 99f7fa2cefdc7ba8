"""What all tests share: one local Ray cluster for the session, in a home folder of its own."""

import gc
import logging
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
import pytest
import support.environment  # noqa: F401  # first
from support.training_problem import MakeConfig, problem_config

import brain_ray  # noqa: F401  # turns telemetry off before a test imports onnxruntime

TESTS = Path(__file__).parent

DEAR = ("ray_cluster", "serving", "bundle")
"""Groups of tests that share something dear: a Ray cluster, an endpoint and its bundle, exported bundles."""


@cache
def group_of(path: str) -> str:
    """Return the group of a file of tests, which one process runs where tests run side by side."""
    room = Path(path).parts[1]
    if room in DEAR:
        return room
    return "ray_cluster" if "ray_cluster" in (TESTS.parent / path).read_text() else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, where tests run side by side."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    places = {group: place for place, group in enumerate(DEAR)}
    paths = {item: str(item.path.relative_to(TESTS.parent)) for item in items}
    items.sort(key=lambda item: places.get(group_of(paths[item]), len(DEAR)))


def pytest_collection() -> None:
    """Let the garbage collector rest while modules are imported, of which it finds nothing."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Let it pass over all that is there by then."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give pytest-xdist the groups."""
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid.partition("::")[0])

    return ByGroup(config, log)


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start Ray once, with room for two workers, their loading tasks and their controller."""
    import ray

    from brain_ray.cluster import connection

    home = os.environ["HOME"]
    os.environ["PYTHONPATH"] = str(TESTS)  # so that workers can import `support`
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))  # Ray leaves tokens there
    with mock.patch.dict(os.environ, connection.LOCAL_ENV):
        ray.init(
            address="local",  # another cluster may run on this machine
            num_cpus=4,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    connection.quiet()
    for process in psutil.Process().children(recursive=True):
        if "log_monitor.py" in " ".join(process.cmdline()):
            process.kill()  # it looks ten times a second for lines that nobody wants here
    yield
    ray.shutdown()
    os.environ["HOME"] = home


@pytest.fixture
def make_config() -> MakeConfig:
    """Give the function that makes settings for the small problem, some of them changed."""
    return problem_config


@pytest.fixture
def weights_file(tmp_path: Path) -> Callable[[Any], Path]:
    """Write a model's weights in Keras' format."""

    def write(model: Any, name: str = "some.weights.h5") -> Path:
        model.save_weights(tmp_path / name)
        return tmp_path / name

    return write
