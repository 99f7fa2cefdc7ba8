"""What the tests of the models share: one exported bundle, and a place for weights."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.models import FACTS, changed_weights, noise, phantom_inputs, settle, tiny

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.convert import make_models
from brain_ray.bundle.schema import BundleInfo
from brain_ray.config import Config, DataConfig


@pytest.fixture(scope="session")
def config() -> Config:
    return Config(name="trial", data=DataConfig(classes=("a", "b", "c")), model=tiny())


@pytest.fixture(scope="session")
def network_weights(config: Config) -> list[NDArray[Any]]:
    from brain_ray.models.network import build_network

    return changed_weights(build_network(config.model, 3, seed=1))


@pytest.fixture(scope="session")
def exported(
    config: Config, network_weights: list[NDArray[Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, BundleInfo]:
    """A finished bundle, which no test may change."""
    folder = tmp_path_factory.mktemp("run") / "bundle"
    labels = np.arange(24) % 3
    return folder, export_bundle(folder, config, network_weights, noise(24), labels, noise(40, seed=9), FACTS)


@pytest.fixture
def bundle(exported: tuple[Path, BundleInfo], tmp_path: Path) -> Path:
    """A copy of the bundle, to be changed."""
    import shutil

    return Path(shutil.copytree(exported[0], tmp_path / "bundle"))


@pytest.fixture(scope="session")
def phantom_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of a network that has seen phantoms, but learnt nothing; its head is the notebooks'."""
    from brain_ray.models.network import build_network

    settings = Config(name="heads", model=tiny(head="seed", height=64, width=64))
    inputs = phantom_inputs(64, 64, range(160))
    model = build_network(settings.model, 4, seed=3)
    settle(model, inputs[:64])
    folder = tmp_path_factory.mktemp("heads") / "bundle"
    weights = [np.asarray(weight) for weight in model.weights]
    export_bundle(folder, settings, weights, inputs[:60], np.arange(60) % 4, inputs[60:], FACTS, make_models)
    return folder
