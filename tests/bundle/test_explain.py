"""The heat maps are Grad-CAM's: what automatic differentiation of the Keras model gives."""

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from support.models import noise, phantom_inputs

from brain_ray.bundle.predictor import Predictor
from brain_ray.bundle.schema import BundleInfo


def grad_cam(file: Path, inputs: NDArray[np.uint8], labels: NDArray[np.integer]) -> NDArray[Any]:
    """Differentiate a Keras model's score before its softmax, through its pooling layer and all."""
    import keras
    import tensorflow as tf

    model = keras.models.load_model(file, compile=False)
    model.get_layer("probabilities").activation = keras.activations.linear
    pool = model.get_layer("pool")
    maps = keras.Model(model.input, pool.input)(inputs.astype(np.float32), training=False)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        x = maps
        for layer in model.layers[model.layers.index(pool) :]:
            x = layer(x, training=False)
        score = tf.reduce_sum(x * tf.one_hot(labels, x.shape[-1]))
    weights = np.asarray(tape.gradient(score, maps)).mean(axis=(1, 2))
    return np.maximum(np.einsum("nhwk,nk->nhw", np.asarray(maps), weights), 0)


def check(folder: Path, inputs: NDArray[np.uint8], head: str) -> None:
    predictor = Predictor(folder, threads=1)
    assert predictor.info["config"]["model"]["head"] == head
    for label in range(len(predictor.classes)):
        labels = np.full(len(inputs), label)
        expected = grad_cam(folder / "model.keras", inputs, labels)
        assert (expected.max(axis=(1, 2)) > 0).any()
        expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
        found = predictor.explain(predictor.predict(inputs).feature_maps, labels)
        assert (found.shape, found.dtype) == (expected.shape, np.float32)
        np.testing.assert_allclose(found, expected, atol=1e-4)
        assert set(np.round(found.max(axis=(1, 2)), 6)) <= {0.0, 1.0}


def test_the_gap_heads_heat_map_is_that_of_the_keras_model(exported: tuple[Path, BundleInfo]) -> None:
    check(exported[0], noise(6, seed=2), "gap")


def test_the_seed_heads_heat_map_is_that_of_the_keras_model(phantom_bundle: Path) -> None:
    check(phantom_bundle, phantom_inputs(64, 64, range(400, 406)), "seed")


@pytest.mark.parametrize("which", ["exported", "phantom_bundle"])
def test_the_raw_heat_map_has_the_gradients_size(which: str, request: pytest.FixtureRequest) -> None:
    made = request.getfixturevalue(which)
    folder = made if isinstance(made, Path) else made[0]
    predictor = Predictor(folder, threads=1)
    inputs = noise(4, predictor.spec.height, predictor.spec.width)
    labels = np.arange(4) % 3
    fed = {"feature_map": predictor.predict(inputs).feature_maps, "label": labels}
    found = onnxruntime.InferenceSession(folder / "explain.onnx").run(["heatmap"], fed)[0]
    expected = grad_cam(folder / "model.keras", inputs, labels)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * expected.max())


def test_a_class_that_nothing_speaks_for_has_an_empty_map(exported: tuple[Path, BundleInfo]) -> None:
    predictor = Predictor(exported[0], threads=1)
    empty = np.zeros((2, 2, 2, 64), np.float32)
    np.testing.assert_array_equal(predictor.explain(empty, [0, 1]), np.zeros((2, 2, 2)))
