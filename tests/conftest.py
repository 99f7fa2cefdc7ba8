"""What all tests share: one local Ray cluster for the session, in a home folder of its own."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.training_problem import MakeConfig, problem_config

import brain_ray  # noqa: F401  # turns telemetry off before a test imports onnxruntime

TESTS = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together, where tests run side by side, what shares something dear, and begin with it.

    That is the Ray cluster, the endpoint and its bundle, and the exported bundles; else a file's tests.
    """
    dear = ["ray_cluster", "serving", "bundle"]

    def group_of(item: pytest.Item) -> str:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            return "ray_cluster"
        path = item.path.relative_to(TESTS)
        return path.parts[0] if path.parts[0] in dear else str(path)

    groups = {item: group_of(item) for item in items}
    items.sort(key=lambda item: dear.index(groups[item]) if groups[item] in dear else len(dear))
    for item, group in groups.items():
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start Ray once, with room for two workers, their loading tasks and their controller."""
    import ray

    from brain_ray.cluster import connection

    home = os.environ["HOME"]
    os.environ["PYTHONPATH"] = str(TESTS)  # so that workers can import `support`
    os.environ["HOME"] = str(tmp_path_factory.mktemp("home"))  # Ray leaves tokens there
    ray.init(
        address="local",  # another cluster may run on this machine
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": connection.WORKER_ENV},
    )
    connection.quiet()
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
