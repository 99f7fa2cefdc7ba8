"""Backbones of other families than EfficientNet: a row of the table, up to a bundle that answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import FACTS, noise, phantom_inputs, settle, tiny

from brain_ray.bundle.build import export_bundle
from brain_ray.bundle.convert import make_models
from brain_ray.bundle.predictor import Predictor
from brain_ray.config import BACKBONES, Config, ModelConfig, TrainConfig
from brain_ray.config.run import check_blocks
from brain_ray.models.backbones import build_backbone, preprocessing_layer
from brain_ray.models.fused_layers import make_convertible
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import block_outputs, blocks_of, build_network, set_trainable
from brain_ray.models.outputs import with_maps
from brain_ray.models.weights import factory_of

keras = import_keras()

FAMILIES = ("ConvNeXtTiny", "ResNet50", "EfficientNetLite0", "MobileNetV3Small")
SIDE = 64

ONE_AND_MORE = [pytest.param(name, marks=pytest.mark.thorough) for name in FAMILIES[:3]] + [FAMILIES[3]]


def settings(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(**{"backbone": name, "weights": "none", "height": SIDE, "width": SIDE} | changes)


def assert_same_weights(found: Any, expected: Any) -> None:
    for ours, theirs in zip(found.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


@pytest.fixture(scope="module", params=ONE_AND_MORE)
def family(request: pytest.FixtureRequest) -> tuple[str, Any]:
    """A name, and its network at 64 px."""
    return request.param, build_network(settings(request.param), 4, seed=1)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_preprocessing_is_that_of_keras_applications(mode: Any) -> None:
    grey = np.repeat(noise(3).astype(np.float32), 3, axis=-1)
    expected = keras.applications.imagenet_utils.preprocess_input(grey.copy(), mode=mode)
    np.testing.assert_allclose(np.asarray(preprocessing_layer(mode)(grey)), expected, atol=1e-5)


def test_raw_grey_is_all_that_a_network_needs(family: tuple[str, Any]) -> None:
    name, network = family
    backbone = network.get_layer("backbone")
    plain = factory_of(BACKBONES[name])(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    assert [w.shape for w in plain.weights] == [w.shape for w in backbone.weights]
    for ours, theirs in zip(backbone.weights, plain.weights, strict=True):
        theirs.assign(ours)
    grey = np.repeat(noise(2, SIDE, SIDE).astype(np.float32), 3, axis=-1)
    others = {"ConvNeXtTiny": "convnext", "ResNet50": "resnet50", "MobileNetV3Small": "mobilenet_v3"}
    module = others.get(name, "efficientnet")
    fed = getattr(keras.applications, module).preprocess_input(grey.copy())
    expected = np.asarray(plain(fed, training=False))
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(
        np.asarray(backbone(grey, training=False)), expected, atol=1e-4 * np.abs(expected).max()
    )


@pytest.mark.parametrize(
    ("family", "count", "first", "last"),
    [
        pytest.param(
            *("ConvNeXtTiny", 18, "convnext_tiny_stage_0_block_0", "convnext_tiny_stage_3_block_2"),
            marks=pytest.mark.thorough,
        ),
        pytest.param("ResNet50", 16, "conv2_block1", "conv5_block3", marks=pytest.mark.thorough),
        ("MobileNetV3Small", 11, "expanded_conv", "expanded_conv_10"),
    ],
    indirect=["family"],
)
def test_the_last_blocks_learn_and_what_comes_after(
    family: tuple[str, Any], count: int, first: str, last: str
) -> None:
    name, network = family
    backbone, spec = network.get_layer("backbone"), BACKBONES[name]
    names = blocks_of(backbone, spec)
    assert (len(names), names[0], names[-1]) == (count, first, last)
    everything = [weight.path for weight in network.trainable_weights]
    try:
        for blocks in (1, 2, count):
            set_trainable(network, spec, blocks)
            learning = [weight.path for weight in network.trainable_weights]
            assert everything[-len(learning) :] == learning  # the end of the network, without a gap
            assert learning[0].split("/")[-2].startswith(f"{names[-blocks]}_")
        set_trainable(network, spec, 0)
        assert len(network.trainable_weights) == 2  # the head's
    finally:
        set_trainable(network, spec, None)
    assert [weight.path for weight in network.trainable_weights] == everything


def test_maps_are_block_outputs_at_a_quarter_and_an_eighth(family: tuple[str, Any]) -> None:
    name, network = family
    outputs = {
        output.shape[1]: output.shape[-1]
        for output in block_outputs(network.get_layer("backbone"), BACKBONES[name])
    }
    *_, statistics = with_maps(network, BACKBONES[name]).output
    assert statistics.shape == (None, 2 * (outputs[SIDE // 4] + outputs[SIDE // 8]))
    channels = {
        "ConvNeXtTiny": 96 + 192,
        "ResNet50": 256 + 512,
        "EfficientNetLite0": 24 + 40,
        "MobileNetV3Small": 16 + 24,
    }
    assert statistics.shape[1] == 2 * channels[name]


@pytest.mark.parametrize("name", ONE_AND_MORE)
def test_maps_are_found_at_odd_sizes(name: str) -> None:
    network = build_network(settings(name, height=95, width=66), 4, seed=1)
    with_maps(network, BACKBONES[name])


@pytest.mark.parametrize("changes", [{}, {"strides": 2}, {"dilation_rate": 2}, {"padding": "valid"}])
def test_a_convolution_with_a_filter_for_each_channel_computes_what_it_did(changes: dict[str, Any]) -> None:
    inputs = keras.Input((12, 10, 6))
    x = keras.layers.Conv2D(6, (5, 3), **{"groups": 6, "padding": "same"} | changes)(inputs)
    model = keras.Model(inputs, keras.layers.Conv2D(4, 1, groups=2)(x))
    image = np.random.default_rng(0).normal(size=(2, 12, 10, 6)).astype(np.float32)
    before = np.asarray(model(image))
    make_convertible(model)
    assert [type(layer).__name__ for layer in model.layers[1:]] == ["DepthwiseByGroups", "Conv2D"]
    np.testing.assert_allclose(np.asarray(model(image)), before, atol=1e-5)


def test_a_block_of_convnext_ends_with_its_sum() -> None:
    """The sum is an operator, which is no layer; before it, there is nothing but the new part."""
    network = build_network(settings("ConvNeXtTiny"), 4, seed=1)
    outputs = block_outputs(network.get_layer("backbone"), BACKBONES["ConvNeXtTiny"])
    assert [output.name.startswith("keras_tensor") for output in outputs] == [True] * 18
    inner = keras.Model(network.get_layer("backbone").input, outputs[:2])
    first, second = (np.asarray(x) for x in inner(np.repeat(noise(1, SIDE, SIDE), 3, axis=-1)))
    # With a layer scale of 1e-6, as Keras initialises it, a block adds next to nothing to its input.
    np.testing.assert_allclose(first, second, atol=1e-4)
    assert np.ptp(first) > 0.1


def test_a_backbone_without_blocks_is_refused_where_blocks_are_counted() -> None:
    blockless = replace(BACKBONES["tiny"], blocks=None)
    check_blocks("tiny", blockless, {"learning_blocks": None, "layer_decay": None})
    for setting, value in (("learning_blocks", 2), ("layer_decay", 0.5)):
        with pytest.raises(
            ValueError, match=rf"train\.{setting} is {value}: the backbone tiny has no blocks"
        ):
            check_blocks("tiny", blockless, {setting: value})
    for name in BACKBONES:
        Config(model=ModelConfig(backbone=name), train=TrainConfig(learning_blocks=2))


def test_a_backbone_without_blocks_has_maps_all_the_same() -> None:
    network = build_network(tiny(height=SIDE, width=SIDE), 3, seed=1)
    spec = replace(BACKBONES["tiny"], blocks=None)
    assert blocks_of(network.get_layer("backbone"), spec) == []
    *_, statistics = with_maps(network, spec).output
    assert statistics.shape == (None, 2 * (32 + 64))
    set_trainable(network, spec, 0)
    set_trainable(network, spec, None)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore")
def test_files_of_another_familys_weights_are_taken_over(tmp_path: Path) -> None:
    """In both of Keras' formats; and as a download of Keras' would come."""
    name = "MobileNetV3Small"
    theirs = factory_of(BACKBONES[name])(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    theirs.save_weights(tmp_path / "new.weights.h5")
    theirs.save(tmp_path / "old_notop.h5")
    for file in ("new.weights.h5", "old_notop.h5"):
        assert_same_weights(build_backbone(settings(name), str(tmp_path / file)), theirs)


@pytest.mark.thorough
def test_imagenet_weights_go_the_way_of_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras' network is without the preprocessing that stands before ours; the weights are the same."""
    theirs = factory_of(BACKBONES["ResNet50"])(include_top=False, weights=None, input_shape=(SIDE, SIDE, 3))
    file = tmp_path / "drawn.weights.h5"
    theirs.save_weights(file)
    monkeypatch.setattr("keras.src.utils.file_utils.get_file", lambda *_, **__: str(file))
    assert_same_weights(build_backbone(settings("ResNet50", weights="imagenet")), theirs)


@pytest.mark.slow
def test_a_backbone_of_another_family_answers_from_its_bundle(
    family: tuple[str, Any], tmp_path: Path
) -> None:
    """The parity gate, Grad-CAM, the distance from the training images, an answer."""
    name, network = family
    config = Config(name="family", model=settings(name))
    inputs, labels = phantom_inputs(SIDE, SIDE, range(48)), np.arange(48) % 4
    for layer in network.get_layer("backbone").layers:
        if type(layer).__name__ == "LayerScale":  # 1e-6 at first: the blocks would add nothing
            layer.gamma.assign(np.linspace(0.1, 0.5, layer.projection_dim))
    settle(network, inputs)
    weights = [np.asarray(weight) for weight in network.weights]
    expected = np.asarray(network(inputs[:8].astype(np.float32), training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3  # else all would be equal anyhow
    folder = tmp_path / "bundle"
    info = export_bundle(folder, config, weights, inputs[:24], labels[:24], inputs[24:], FACTS, make_models)
    assert info.check.largest_difference < 1e-4
    assert max(found.largest for found in info.check.outputs.values()) < 5e-3
    predictor = Predictor(folder)
    predictor.check_canaries()
    found = predictor.predict(inputs[:8])
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-4)
    assert found.feature_maps.shape == (8, 2, 2, network.get_layer("backbone").output.shape[-1])
    assert np.isfinite(found.unlikeness).all()
    strange = predictor.predict(noise(8, SIDE, SIDE))
    assert strange.unlikeness.min() > found.unlikeness.max()
    heat = predictor.explain(found.feature_maps, found.probabilities.argmax(axis=1))
    assert heat.shape == (8, 2, 2)
    assert heat.max() == 1
    assert set(predictor.decide(strange)) == {"not_mr"}
