"""Layers of fewer operations compute what Keras' own do."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from support.models import noise, tiny

from brain_ray.config import ModelConfig
from brain_ray.models.fused_layers import fuse
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import build_network

keras = import_keras()


def norms_of(model: Any) -> list[Any]:
    layers = [*model.layers, *model.get_layer("backbone").layers]
    return [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def step(model: Any, images: Any) -> tuple[Any, list[Any]]:
    """Return the output in training, and the gradients of a loss."""
    import tensorflow as tf

    with tf.GradientTape() as tape:
        output = model(images, training=True)
        loss = tf.reduce_sum(output[:, 0] ** 2)
    return output, tape.gradient(loss, model.trainable_variables)


@pytest.mark.parametrize("trainable", [True, False])
def test_outputs_gradients_and_statistics_are_those_of_keras(trainable: bool) -> None:
    images = noise(6).astype(np.float32)
    plain, fused = (build_network(tiny(dropout=0.0, bn_momentum=0.7), 3, seed=1) for _ in range(2))
    fuse(fused)
    for model in (plain, fused):
        for i, norm in enumerate(norms_of(model)):
            norm.trainable = trainable
            norm.moving_variance.assign(np.linspace(0.1, 2 + i, norm.moving_variance.shape[0]))
    for _ in range(3):
        (output, gradients), (expected, expected_gradients) = step(fused, images), step(plain, images)
        assert_allclose(output, expected, rtol=1e-4, atol=1e-6)
        for ours, theirs in zip(gradients, expected_gradients, strict=True):
            assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5)
    for ours, theirs in zip(fused.weights, plain.weights, strict=True):
        assert ours.path == theirs.path
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6, err_msg=ours.path)
    assert_allclose(fused(images), plain(images), rtol=1e-4, atol=1e-6)


def test_those_of_feature_maps_are_fused_and_no_others() -> None:
    model = build_network(tiny(head="seed"), 3, seed=1)
    fuse(model)
    kinds = {norm.name: type(norm) is keras.layers.BatchNormalization for norm in norms_of(model)}
    assert kinds == {"head_norm": True, **{f"block{i}_bn": False for i in range(1, 6)}}


@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16"])
def test_statistics_are_float32_in_every_precision(precision: str) -> None:
    layer = keras.layers.BatchNormalization(dtype=precision, momentum=0.5)
    model = keras.Sequential([keras.Input((8, 8, 3), dtype="float32"), layer])
    fuse(model)
    images = np.random.default_rng(1).normal(3, 2, (16, 8, 8, 3)).astype(np.float32)
    output = model(images, training=True)
    assert output.dtype == precision.removeprefix("mixed_")
    assert_allclose(np.asarray(output, np.float32).std(axis=(0, 1, 2)), 1, atol=0.01)
    assert layer.moving_mean.dtype == layer.moving_variance.dtype == "float32"
    assert_allclose(layer.moving_mean, images.mean(axis=(0, 1, 2)) / 2, rtol=0.01)
    assert_allclose(layer.moving_variance, (1 + images.var(axis=(0, 1, 2))) / 2, rtol=0.01)


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_silu_and_its_gradient_are_those_of_keras(precision: str) -> None:
    import tensorflow as tf

    layer = keras.layers.Activation("swish", dtype=precision)
    model = keras.Sequential([keras.Input((300,), dtype="float32"), layer])
    x = tf.constant(np.linspace(-12, 12, 300, dtype=np.float32)[np.newaxis])
    found = []
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        found.append((y, tape.gradient(y, x, np.linspace(1, 3, 300)[np.newaxis].astype(y.dtype.name))))
        fuse(model)
    assert layer.activation is not keras.activations.silu
    tolerance = 1e-5 if precision == "float32" else 5e-3
    for theirs, ours in zip(*found, strict=True):
        assert_allclose(
            np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol=tolerance, atol=tolerance
        )


def test_all_that_efficientnet_repeats_is_fused() -> None:
    model = build_network(ModelConfig(weights="none", height=32, width=32), 3, seed=1)
    fuse(model)
    layers = model.get_layer("backbone").layers
    assert not [layer.name for layer in layers if type(layer) is keras.layers.BatchNormalization]
    assert not [layer.name for layer in layers if getattr(layer, "activation", 0) is keras.activations.silu]
