"""A bundle of several members: the mean of what each alone would answer, show and cost."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from support.models import FACTS, changed_weights, noise, phantom_inputs, settle, tiny

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.bundle import ONNX_FILE
from brain_ray.bundle.convert import convert_explanation, make_models
from brain_ray.bundle.members import Member
from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.session import OUTPUTS, open_session, run
from brain_ray.config import Config, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.ensemble import join_networks

MEMBERS = 3


@pytest.fixture(scope="module")
def weights(config: Config) -> list[list[NDArray[Any]]]:
    from brain_ray.models.network import build_network

    return [changed_weights(build_network(config.model, 3, seed=seed)) for seed in range(MEMBERS)]


@pytest.fixture(scope="module")
def singles(
    config: Config, weights: list[list[NDArray[Any]]], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """A bundle of each member."""
    place = tmp_path_factory.mktemp("singles")
    for number, each in enumerate(weights):
        export(place / str(number), config, [each])
    return [place / str(number) for number in range(MEMBERS)]


@pytest.fixture(scope="module")
def together(
    config: Config, weights: list[list[NDArray[Any]]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """One bundle of all members."""
    folder = tmp_path_factory.mktemp("together") / "bundle"
    export(folder, config, weights)
    return folder


@pytest.fixture(scope="module")
def mirrored(
    config: Config, weights: list[list[NDArray[Any]]], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """A mirrored bundle of the first member, and one of the first two."""
    place = tmp_path_factory.mktemp("mirrored")
    both = config.model_copy(update={"export": config.export.model_copy(update={"mirrored": True})})
    for number in (1, 2):
        export(place / str(number), both, weights[:number])
    return [place / "1", place / "2"]


def export(folder: Path, config: Config, members: list[list[NDArray[Any]]]) -> None:
    labels, images = np.arange(24) % 3, noise(24)
    first, *others = members
    more = [Member(each, config.model) for each in others]
    export_bundle(
        folder, config, first, images, labels, noise(40, seed=9), FACTS, make_models, more_members=more
    )


def outputs(folder: Path, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    session = open_session((folder / ONNX_FILE).read_bytes(), gpu=False)
    return dict(zip(OUTPUTS, run(session, images, OUTPUTS), strict=True))


@pytest.mark.slow
def test_probabilities_are_the_mean_and_maps_stand_side_by_side(singles: list[Path], together: Path) -> None:
    images = noise(7, seed=4)
    alone, found = [outputs(folder, images) for folder in singles], outputs(together, images)
    mean = np.mean([each["probabilities"] for each in alone], axis=0)
    assert_allclose(found["probabilities"], mean, atol=1e-6)
    assert np.ptp([each["probabilities"] for each in alone], axis=0).max() > 0.01, "members differ"
    maps = np.concatenate([each["feature_map"] for each in alone], axis=-1)
    assert_allclose(found["feature_map"], maps, rtol=1e-4, atol=1e-4)
    assert_allclose(found["statistics"], alone[0]["statistics"], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_heat_map_is_the_mean_of_the_members_each_to_its_own_largest_value(
    singles: list[Path], together: Path
) -> None:
    images = noise(3, seed=5)

    def heat_of(folder: Path) -> NDArray[np.float32]:
        predictor = Predictor(str(folder))
        maps = outputs(folder, images)["feature_map"]
        return predictor.explain(maps, [1, 1, 1])

    alone = [heat_of(folder) for folder in singles]
    scaled = [each / np.maximum(each.max(axis=(1, 2), keepdims=True), 1e-12) for each in alone]
    found = heat_of(together)
    expected = np.mean(scaled, axis=0)
    assert_allclose(
        found / found.max(axis=(1, 2), keepdims=True),
        expected / expected.max(axis=(1, 2), keepdims=True),
        atol=2e-3,
    )


@pytest.mark.slow
def test_the_keras_file_holds_the_whole_ensemble(together: Path, singles: list[Path]) -> None:
    import keras

    images = noise(5, seed=6)
    model = keras.models.load_model(together / "model.keras", compile=False, safe_mode=True)
    expected = np.mean([outputs(folder, images)["probabilities"] for folder in singles], axis=0)
    assert_allclose(np.asarray(model(images.astype(np.float32), training=False)), expected, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("members", [1, 2])
def test_a_mirrored_bundle_averages_the_answers_to_both_views_and_shows_the_image_itself(
    mirrored: list[Path], singles: list[Path], members: int
) -> None:
    import keras

    images = noise(5, seed=7)
    turned = np.ascontiguousarray(images[:, :, ::-1])
    folder, alone = mirrored[members - 1], singles[:members]
    found = outputs(folder, images)
    each = [outputs(single, views)["probabilities"] for single in alone for views in (images, turned)]
    assert_allclose(found["probabilities"], np.mean(each, axis=0), atol=1e-6)
    assert np.abs(each[0] - each[1]).max() > 1e-3, "the views are answered differently"
    assert_allclose(outputs(folder, turned)["probabilities"], found["probabilities"], atol=1e-6)
    maps = [outputs(single, images)["feature_map"] for single in alone]
    assert_allclose(found["feature_map"], np.concatenate(maps, axis=-1), rtol=1e-4, atol=1e-4)
    assert_allclose(found["statistics"], outputs(alone[0], images)["statistics"], rtol=1e-4, atol=1e-4)
    model = keras.models.load_model(folder / "model.keras", compile=False, safe_mode=True)
    expected = np.asarray(model(images.astype(np.float32), training=False))
    assert_allclose(found["probabilities"], expected, atol=1e-5)
    assert "as it is and mirrored left for right" in (folder / "MODEL_CARD.md").read_text()
    assert "mirrored left for right" not in (alone[0] / "MODEL_CARD.md").read_text()


@pytest.mark.slow
def test_networks_of_two_backbones_are_averaged(tmp_path: Path) -> None:
    from brain_ray.models.network import build_network

    lite = ModelConfig(backbone="EfficientNetLite0", weights="none", height=64, width=64)
    models = [tiny(height=64, width=64), lite]
    inputs, networks = phantom_inputs(64, 64, range(64)), []
    for number, model in enumerate(models):
        networks.append(build_network(model, 4, seed=number))
        settle(networks[-1], inputs)
    first, second = ([np.asarray(weight) for weight in network.weights] for network in networks)
    config, labels = Config(name="two", model=models[0]), np.arange(40) % 4
    facts = {
        **FACTS,
        "training": {**FACTS["training"], "members": 2, "models": ["tiny (gap)", "Lite0 (gap)"]},
    }
    more = [Member(second, models[1])]
    folder = tmp_path / "bundle"
    export_bundle(
        folder, config, first, inputs[:40], labels, inputs[40:], facts, make_models, more_members=more
    )
    images = inputs[:5]
    found = outputs(folder, images)
    answers = [np.asarray(network(images.astype(np.float32), training=False)) for network in networks]
    assert_allclose(found["probabilities"], np.mean(answers, axis=0), atol=1e-5)
    assert np.ptp(answers, axis=0).max() > 0.01, "they differ"
    assert found["feature_map"].shape == (5, 2, 2, 64 + 1280)
    heat = Predictor(str(folder)).explain(found["feature_map"], [0, 1, 2, 3, 0])
    assert heat.shape[0] == 5
    assert heat.max() > 0
    card = (folder / "MODEL_CARD.md").read_text()
    assert "The mean of 2 networks, tiny (gap), Lite0 (gap); what is said of the training here" in card


@pytest.mark.slow
def test_networks_whose_maps_look_elsewhere_are_not_averaged(tmp_path: Path) -> None:
    from brain_ray.models.network import build_network

    models = [
        tiny(height=64, width=64),
        ModelConfig(backbone="ResNet50", weights="none", height=64, width=64),
    ]
    networks = [build_network(model, 4, seed=1) for model in models]
    model = join_networks(networks)
    with pytest.raises(RunError, match="look at different places of the image"):
        convert_explanation(model, tmp_path / "explain.onnx", 17)
