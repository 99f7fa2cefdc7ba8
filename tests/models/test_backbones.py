"""Backbones: every name exists, weights are taken over whole or refused, one graph for all weights."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from pydantic import ValidationError
from support.models import tiny

from brain_ray.config import BACKBONES, Backbone, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.backbones import build_backbone
from brain_ray.models.keras_import import import_keras
from brain_ray.models.weights import IMAGENET_DEVIATION, assign_weights, factory_of, fetch

keras = import_keras()

MEAN = (0.485, 0.456, 0.406)
REAL_WEIGHTS = Path(__file__).parents[3] / "shared/weights/efficientnetb0_notop.weights.h5"


def b0(**changes: Any) -> ModelConfig:
    return ModelConfig(**{"weights": "none", "height": 32, "width": 32} | changes)


def assert_same_function(found: Any, expected: Any) -> None:
    """Compare two backbones' features by the size that they have: untrained ones are tiny."""
    ours, theirs = (np.asarray(model(pixels(), training=False)) for model in (found, expected))
    assert np.ptp(theirs) > 0
    assert np.abs(ours - theirs).max() < 1e-3 * np.abs(theirs).max()


def pixels(count: int = 2) -> np.ndarray:
    return np.random.default_rng(3).uniform(0, 255, (count, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def distributed() -> Any:
    """B0 with the normalisation of the files that Keras distributes: deviations for variances."""
    model = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    layer = next(x for x in model.layers if isinstance(x, keras.layers.Normalization))
    layer.adapt_mean.assign(MEAN)
    layer.adapt_variance.assign(IMAGENET_DEVIATION)
    layer.finalize_state()
    return model


@pytest.fixture
def download(distributed: Any, weights_file: Callable[[Any], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for Keras' download of the ImageNet weights."""
    file = weights_file(distributed)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(file))


def test_every_row_is_a_name_of_the_settings_and_has_a_factory() -> None:
    assert list(get_args(Backbone)) == list(BACKBONES)
    assert all(callable(factory_of(row)) for row in BACKBONES.values())
    with pytest.raises(ValidationError, match=r"Input should be 'EfficientNetB0', .* or 'tiny'"):
        ModelConfig(backbone="EfficientNetB8")


def test_every_efficientnet_of_keras_has_its_native_size(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: row for name, row in BACKBONES.items() if row.factory.startswith("keras.applications.Eff")}
    assert len(rows) == 15
    sizes: list[int] = []

    def note(*arguments: Any, default_size: int = 0, **_: Any) -> None:
        sizes.append(default_size or arguments[2])

    monkeypatch.setattr("keras.src.applications.efficientnet.EfficientNet", note)
    monkeypatch.setattr("keras.src.applications.efficientnet_v2.EfficientNetV2", note)
    for row in rows.values():
        factory_of(row)()
    assert sizes == [row.native_side for row in rows.values()]


@pytest.mark.parametrize(
    "name",
    [
        "EfficientNetB1",
        "EfficientNetV2B0",
        pytest.param("EfficientNetV2S", marks=pytest.mark.thorough),  # large, and made by V2B0's function
        "ConvNeXtTiny",
        "ResNet50",
        "MobileNetV3Small",
    ],
)
def test_a_row_names_the_file_that_keras_downloads(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(file: str, *_: Any, **__: Any) -> str:
        asked.append(file)
        raise OSError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    with pytest.raises(OSError, match="no network"):
        factory_of(BACKBONES[name])(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    assert asked == [BACKBONES[name].weights_file]


def test_tiny_takes_raw_pixels_to_a_small_map() -> None:
    backbone = build_backbone(tiny())
    assert backbone.output_shape == (None, 2, 2, 64)
    assert isinstance(backbone.layers[1], keras.layers.Rescaling)
    assert [type(x).__name__ for x in backbone.layers].count("Conv2D") == 5


def test_imagenet_graph_is_folded_into_the_plain_one(download: None) -> None:
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    ours = build_backbone(b0(weights="imagenet"))
    plain = build_backbone(b0())
    assert [type(x) for x in ours.layers] == [type(x) for x in plain.layers]
    assert [w.shape for w in ours.weights] == [w.shape for w in theirs.weights]
    assert len(theirs.layers) == len(ours.layers) + 1  # the rescaling that is folded
    assert_same_function(ours, theirs)
    assign_weights(plain, [np.asarray(weight) for weight in theirs.weights])  # as they are, not folded
    with pytest.raises(AssertionError):
        assert_same_function(plain, theirs)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_keras_distributes_is_folded_too(
    download: None, distributed: Any, tmp_path: Path
) -> None:
    distributed.save(tmp_path / "b0_notop.h5")  # the older format, which those files have
    theirs = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    ours = build_backbone(b0(), str(tmp_path / "b0_notop.h5"))
    assert_same_function(ours, theirs)


@pytest.mark.thorough
def test_a_v2_file_is_loaded_as_it_is(weights_file: Callable[[Any], Path]) -> None:
    settings = b0(backbone="EfficientNetV2B0")
    theirs = keras.applications.EfficientNetV2B0(include_top=False, weights=None, input_shape=(32, 32, 3))
    ours = build_backbone(settings, str(weights_file(theirs)))
    np.testing.assert_array_equal(
        np.asarray(ours(pixels(), training=False)), np.asarray(theirs(pixels(), training=False))
    )


@pytest.mark.skipif(not REAL_WEIGHTS.exists(), reason=f"no weights file at {REAL_WEIGHTS}")
def test_real_weights_arrive_with_their_normalisation() -> None:
    theirs = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    theirs.load_weights(REAL_WEIGHTS)
    ours = build_backbone(b0(), str(REAL_WEIGHTS))
    layer = next(x for x in ours.layers if isinstance(x, keras.layers.Normalization))
    np.testing.assert_allclose(np.ravel(layer.mean), MEAN)
    np.testing.assert_allclose(np.ravel(layer.variance), np.square(IMAGENET_DEVIATION), rtol=1e-6)
    np.testing.assert_array_equal(
        np.asarray(ours(pixels(), training=False)), np.asarray(theirs(pixels(), training=False))
    )


@pytest.mark.filterwarnings("ignore:Skipping nested container")
def test_weights_of_another_network_are_refused(weights_file: Callable[..., Path]) -> None:
    file = weights_file(build_backbone(tiny()))
    with pytest.raises(
        RunError, match=r"some\.weights\.h5 does not fit the backbone EfficientNetB0: it holds 25"
    ):
        build_backbone(b0(), str(file))
    inputs = keras.Input((48, 40, 3))
    x = inputs
    for filters in (16, 32, 64, 64, 256):  # as many weights as tiny has, and one of another shape
        x = keras.layers.BatchNormalization()(keras.layers.Conv2D(filters, 3, use_bias=False)(x))
    with pytest.raises(RunError, match="does not fit the backbone tiny"):
        build_backbone(tiny(), str(weights_file(keras.Model(inputs, x), "wide.weights.h5")))


def test_a_damaged_weights_file_is_named(weights_file: Callable[[Any], Path]) -> None:
    file = weights_file(build_backbone(tiny()))
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(RunError, match=r"some\.weights\.h5 does not fit the backbone tiny"):
        build_backbone(tiny(), str(file))


def test_weights_that_change_nothing_are_refused(weights_file: Callable[[Any], Path]) -> None:
    keras.utils.set_random_seed(1)
    file = weights_file(build_backbone(tiny()))
    keras.utils.set_random_seed(1)
    with pytest.raises(RunError, match=r"left the initial values in .*kernel of tiny"):
        build_backbone(tiny(), str(file))


def test_weights_without_normalisation_are_refused(weights_file: Callable[[Any], Path]) -> None:
    file = weights_file(build_backbone(b0()))
    with pytest.raises(RunError, match="leaves the input of EfficientNetB0 unnormalised"):
        build_backbone(b0(), str(file))


def test_weights_that_are_not_finite_are_refused(weights_file: Callable[[Any], Path]) -> None:
    backbone = build_backbone(tiny())
    backbone.weights[0].assign(np.full(backbone.weights[0].shape, np.nan))
    with pytest.raises(RunError, match="not finite"):
        build_backbone(tiny(), str(weights_file(backbone)))


def test_a_failed_download_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise OSError("URL fetch failure")

    monkeypatch.setattr("keras.src.utils.file_utils.get_file", refuse)
    with pytest.raises(
        RunError, match="EfficientNetB0 could not be had from Keras: URL fetch failure; set model"
    ):
        build_backbone(b0(weights="imagenet"))
    with pytest.raises(RunError, match="`tiny` has no ImageNet weights"):
        build_backbone(tiny(weights="imagenet"))


def test_an_input_too_small_for_five_halvings_is_refused() -> None:
    with pytest.raises(RunError, match=r"31x64: EfficientNetB0 needs 32 px"):
        build_backbone(b0(height=31, width=64))


def test_batch_norm_momentum_is_set_everywhere_or_left() -> None:
    def momenta(backbone: Any) -> set[float]:
        return {x.momentum for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)}

    assert momenta(build_backbone(tiny(bn_momentum=0.8))) == {0.8}
    assert momenta(build_backbone(tiny())) == {0.9}


def test_fetch_yields_local_files_and_copies_others(tmp_path: Path) -> None:
    file = tmp_path / "x.weights.h5"
    file.write_bytes(b"abc")
    with fetch(str(file)) as found:
        assert found == file
    with fetch(file.as_uri()) as found:
        assert found != file
        assert found.name == file.name
        assert found.read_bytes() == b"abc"
    assert not found.exists()
    for missing in (tmp_path / "y.h5", (tmp_path / "y.h5").as_uri()):
        with pytest.raises(RunError, match=r"y\.h5"), fetch(str(missing)):
            pass


def test_weights_that_do_not_fit_are_not_assigned() -> None:
    backbone = build_backbone(tiny())
    before = [np.asarray(w) for w in backbone.weights]
    wrong = [*[w + 1 for w in before[:-1]], np.zeros(3)]
    with pytest.raises(ValueError, match=r"first difference at 24: \(3,\) for \(64,\)"):
        assign_weights(backbone, wrong)
    with pytest.raises(ValueError, match="24 arrays for the 25 weights"):
        assign_weights(backbone, before[:-1])
    for weight, array in zip(backbone.weights, before, strict=True):
        np.testing.assert_array_equal(np.asarray(weight), array)


def test_importing_the_room_loads_no_tensorflow() -> None:
    names = (
        *("models.backbones", "models.network", "models.weights", "scoring.calibration"),
        *(f"bundle.{name}" for name in ("bundle", "build", "convert", "export", "parity", "predictor")),
    )
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module("brain_ray." + name)
loaded = [name for name in ("tensorflow", "keras", "tf2onnx", "ray") if name in sys.modules]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
