"""What all tests share: one local Ray cluster for the session, in a home folder of its own."""

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.training_problem import MakeConfig, problem_config

import brain_ray  # noqa: F401  # turns telemetry off before a test imports onnxruntime


@pytest.fixture(scope="session")
def ray_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Start Ray once, with room for two workers, their loading tasks and their controller."""
    import ray

    from brain_ray.cluster import connection

    home = os.environ["HOME"]
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # so that workers can import `support`
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
