"""The network: its heads, seeds, phases, penalties, and that a saved one answers as before."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.models import noise, settle, tiny

from brain_ray.config import BACKBONES, ModelConfig
from brain_ray.errors import RunError
from brain_ray.models.keras_import import import_keras
from brain_ray.models.network import blocks_of, build_network, penalties, set_trainable, split_network
from brain_ray.models.weights import assign_weights

keras = import_keras()

TINY = BACKBONES["tiny"]


def values(model: Any) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in model.weights]


def test_a_grey_image_becomes_probabilities() -> None:
    model = build_network(tiny(), 3, seed=1)
    output = model(noise(5).astype(np.float32))
    assert model.input.name == "image"
    assert (model.input_shape, model.output_shape) == ((None, 48, 40, 1), (None, 3))
    assert output.dtype == "float32"
    np.testing.assert_allclose(np.asarray(output).sum(axis=1), 1, rtol=1e-6)


def test_the_backbone_sees_three_equal_channels() -> None:
    model = build_network(tiny(), 3, seed=1)
    image = noise(2).astype(np.float32)
    repeated = keras.Model(model.input, model.get_layer("repeat").output)(image)
    np.testing.assert_array_equal(np.asarray(repeated), np.repeat(image, 3, axis=-1))


def test_the_seed_head_has_the_notebooks_numbers() -> None:
    model = build_network(tiny(head="seed", dropout=0.4), 4, seed=123)
    pool, norm, dense, dropout, outputs = model.layers[-5:]
    assert type(pool) is keras.layers.GlobalMaxPooling2D
    assert type(norm) is keras.layers.BatchNormalization
    assert (norm.momentum, norm.epsilon, norm.axis) == (0.99, 0.001, -1)
    assert type(dense) is keras.layers.Dense
    assert (dense.units, dense.activation) == (256, keras.activations.relu)
    assert dense.kernel_regularizer.get_config() == pytest.approx({"l2": 0.016})
    assert dense.activity_regularizer.get_config() == pytest.approx({"l1": 0.006})
    assert dense.bias_regularizer.get_config() == pytest.approx({"l1": 0.006})
    assert type(dropout) is keras.layers.Dropout
    assert (dropout.rate, dropout.seed) == (0.4, 123)
    assert (outputs.units, outputs.activation) == (4, keras.activations.softmax)


def test_the_gap_head_pools_the_mean() -> None:
    model = build_network(tiny(head="gap", dropout=0.25), 4, seed=9)
    pool, dropout, outputs = model.layers[-3:]
    assert type(pool) is keras.layers.GlobalAveragePooling2D
    assert (type(dropout), dropout.rate, dropout.seed) == (keras.layers.Dropout, 0.25, 9)
    assert (outputs.units, outputs.activation) == (4, keras.activations.softmax)
    assert model.layers[-4].name == "backbone"


@pytest.mark.parametrize("head", ["seed", "gap"])
def test_a_seed_fixes_weights_and_dropout(head: str) -> None:
    first, same, other = (build_network(tiny(head=head), 3, seed=seed) for seed in (7, 7, 8))
    assert all(np.array_equal(a, b) for a, b in zip(values(first), values(same), strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(values(first), values(other), strict=True))
    image = noise(4).astype(np.float32)
    np.testing.assert_array_equal(
        np.asarray(first(image, training=True)), np.asarray(same(image, training=True))
    )


def test_in_half_precision_the_head_computes_in_float32() -> None:
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy("mixed_bfloat16")
    try:
        model = build_network(tiny(), 3, seed=1)
    finally:
        keras.mixed_precision.set_dtype_policy(before)
    assert model.get_layer("backbone").layers[-1].compute_dtype == "bfloat16"
    head = [model.get_layer(name) for name in ("pool", "head_dropout", "probabilities")]
    assert [layer.compute_dtype for layer in head] == ["float32"] * 3
    assert model(noise(1).astype(np.float32)).dtype == "float32"


def test_phases_choose_what_learns_and_keep_the_order() -> None:
    model = build_network(tiny(head="seed"), 3, seed=1)
    names = [weight.path for weight in model.weights]
    everything = [weight.path for weight in model.trainable_weights]
    set_trainable(model, TINY, 0)
    assert [weight.path for weight in model.weights] == names
    # head_norm's gamma and beta, and kernel and bias of head_dense and probabilities
    assert [weight.path for weight in model.trainable_weights] == everything[-6:]
    assert any(path.startswith("block1_conv") for path in everything)
    assert not any(weight.path.startswith("block") for weight in model.trainable_weights)
    set_trainable(model, TINY, None)
    assert [weight.path for weight in model.weights] == names
    assert [weight.path for weight in model.trainable_weights] == everything


def test_the_last_blocks_learn_with_or_without_their_norms() -> None:
    model = build_network(tiny(), 3, seed=1)
    everything = [weight.path for weight in model.trainable_weights]
    set_trainable(model, TINY, 2)
    last = [path for path in everything if not path.startswith(("block1_", "block2_", "block3_"))]
    assert [weight.path for weight in model.trainable_weights] == last
    set_trainable(model, TINY, 2, fixed_norms=True)
    assert [weight.path for weight in model.trainable_weights] == [p for p in last if "_bn" not in p]
    backbone = model.get_layer("backbone")
    before = [np.array(weight) for weight in backbone.weights]
    set_trainable(model, TINY, None, fixed_norms=True)
    assert [weight.path for weight in model.trainable_weights] == [p for p in everything if "_bn" not in p]
    model(noise(8).astype(np.float32), training=True)
    assert all(map(np.array_equal, before, backbone.weights))
    set_trainable(model, TINY, None)
    assert [weight.path for weight in model.trainable_weights] == everything
    with pytest.raises(RunError, match=r"train\.learning_blocks is 6: this backbone has 5, block1 to block5"):
        set_trainable(model, TINY, 6)


def test_an_efficientnet_has_its_blocks_and_the_top_learns_with_the_last() -> None:
    model = build_network(ModelConfig(weights="none", height=32, width=32), 3, seed=1)
    spec = BACKBONES["EfficientNetB0"]
    names = blocks_of(model.get_layer("backbone"), spec)
    assert (len(names), names[0], names[-1]) == (16, "block1a", "block7a")
    set_trainable(model, spec, 1, fixed_norms=True)
    learning = {weight.path.split("_")[0] for weight in model.trainable_weights}
    assert learning == {"block7a", "top", "probabilities/kernel", "probabilities/bias"}


@pytest.mark.parametrize("head", ["seed", "gap"])
def test_a_network_in_two_computes_what_it_does_in_one(head: str) -> None:
    model = build_network(tiny(head=head), 3, seed=1)
    features, rest = split_network(model)
    images = noise(4).astype(np.float32)
    assert features.output_shape == rest.input_shape == (None, 64)
    np.testing.assert_array_equal(np.asarray(rest(features(images))), np.asarray(model(images)))
    assert [weight.path for weight in features.weights + rest.weights] == [w.path for w in model.weights]


def test_a_frozen_backbone_leaves_its_statistics_alone() -> None:
    model = build_network(tiny(), 3, seed=1)
    backbone = model.get_layer("backbone")
    image = noise(8).astype(np.float32)
    set_trainable(model, TINY, 0)
    before = values(backbone)
    model(image, training=True)
    assert all(np.array_equal(a, b) for a, b in zip(before, values(backbone), strict=True))
    set_trainable(model, TINY, None)
    model(image, training=True)
    assert any(not np.array_equal(a, b) for a, b in zip(before, values(backbone), strict=True))


@pytest.mark.parametrize("count", [3, 12])
def test_penalties_are_the_notebooks_per_image(count: int) -> None:
    model = build_network(tiny(head="seed"), 3, seed=1)
    assign_weights(model, [array + 0.01 for array in values(model)])
    image = noise(count).astype(np.float32)
    dense = model.get_layer("head_dense")
    hidden = np.asarray(keras.Model(model.input, dense.output)(image, training=False), np.float64)
    kernel, bias = (np.asarray(w, np.float64) for w in dense.weights)
    model(image, training=False)
    on_weights, on_activities = penalties(model)
    expected = 0.016 * np.square(kernel).sum() + 0.006 * np.abs(bias).sum()
    assert float(on_weights) == pytest.approx(expected, rel=1e-5)
    # Keras divides by the number of images: twice the batch is not twice the penalty.
    assert float(on_activities) == pytest.approx(0.006 * np.abs(hidden).sum() / count, rel=1e-5)
    assert float(on_activities) > 0
    assert float(on_weights + on_activities) == pytest.approx(float(sum(model.losses)), rel=1e-6)


def test_penalties_have_gradients_in_a_traced_step() -> None:
    import tensorflow as tf

    model = build_network(tiny(head="seed"), 3, seed=1)
    kernel = model.get_layer("head_dense").kernel

    @tf.function
    def step(image: Any) -> Any:
        with tf.GradientTape(persistent=True) as tape:
            model(image, training=True)
            on_weights, on_activities = penalties(model)
        return tape.gradient(on_weights, kernel.value), tape.gradient(on_activities, kernel.value)

    by_weights, by_activities = step(noise(4).astype(np.float32))
    np.testing.assert_allclose(by_weights, 2 * 0.016 * np.asarray(kernel), rtol=1e-5)
    assert np.abs(by_activities).max() > 0


def test_the_gap_head_has_no_penalties() -> None:
    model = build_network(tiny(head="gap"), 3, seed=1)
    model(noise(2).astype(np.float32), training=True)
    assert [float(x) for x in penalties(model)] == [0.0, 0.0]


def test_an_efficientnet_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    # keras-team/keras 20147: a .keras file that lost the state of its Normalization layer
    settings = ModelConfig(weights="none", height=32, width=32, head="seed")
    model = build_network(settings, 3, seed=1)
    settle(model, noise(8, 32, 32, seed=1))
    image = noise(3, 32, 32).astype(np.float32)
    expected = np.asarray(model(image, training=False))
    assert np.ptp(expected, axis=0).max() > 1e-3  # else all would be equal anyhow
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_array_equal(np.asarray(loaded(image, training=False)), expected)
    again = build_network(settings, 3, seed=2)
    again.set_weights(values(model))  # Keras' own way leaves the normalisation as it was
    assert np.abs(np.asarray(again(image, training=False)) - expected).max() > 1e-3
    assign_weights(again, values(model))
    np.testing.assert_array_equal(np.asarray(again(image, training=False)), expected)
