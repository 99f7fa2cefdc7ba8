"""What the tests of the models share: one exported bundle, and a place for weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import FACTS, changed_weights, noise, tiny
from numpy.typing import NDArray

from brain_ray.config import Config, DataConfig
from brain_ray.model.bundle import BundleInfo
from brain_ray.model.export import export_bundle


@pytest.fixture(scope="session")
def config() -> Config:
    return Config(name="trial", data=DataConfig(classes=("a", "b", "c")), model=tiny())


@pytest.fixture(scope="session")
def network_weights(config: Config) -> list[NDArray[Any]]:
    from brain_ray.model.network import build_network

    return changed_weights(build_network(config.model, 3, seed=1))


@pytest.fixture(scope="session")
def exported(
    config: Config, network_weights: list[NDArray[Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BundleInfo]:
    """A finished bundle, which no test may change."""
    folder = tmp_path_factory.mktemp("run") / "bundle"
    labels = np.arange(24) % 3
    return folder, export_bundle(folder, config, network_weights, noise(24), labels, FACTS)


@pytest.fixture
def bundle(exported: tuple[Path, BundleInfo], tmp_path: Path) -> Path:
    """A copy of the bundle, to be changed."""
    import shutil

    return Path(shutil.copytree(exported[0], tmp_path / "bundle"))


@pytest.fixture
def weights_file(tmp_path: Path) -> Callable[[Any], Path]:
    """Write a model's weights in Keras' format."""

    def write(model: Any, name: str = "some.weights.h5") -> Path:
        model.save_weights(tmp_path / name)
        return tmp_path / name

    return write
