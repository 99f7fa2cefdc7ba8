"""The losses, decays and limits that the settings name are those of Keras."""

import importlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from support.jobs import ROOT
from support.training_problem import MakeConfig, quarters

from brain_ray.config import Config, TrainConfig
from brain_ray.errors import RunError
from brain_ray.loading.loader import Batch
from brain_ray.models.network import blocks_of, build_network
from brain_ray.training.tensorflow.learner import Learner
from brain_ray.training.tensorflow.losses import check_rows, loss_function
from brain_ray.training.tensorflow.mixing import draw_mixture
from brain_ray.training.tensorflow.one_shape import fill
from brain_ray.training.tensorflow.optimizer import build_optimizer

SEED_HEAD = {"head": "seed", "dropout": 0.0}
WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0], np.float32)


def make_learner(config: Config, class_weights: NDArray[np.float32] | None = None) -> Learner:
    import tensorflow as tf

    learner = Learner(config, 4, tf.distribute.get_strategy(), class_weights=class_weights)
    learner.start_epoch(0)
    return learner


def make_batch(num: int = 8, seed: int = 0) -> Batch:
    images, labels = quarters(num, seed)
    return Batch(images, labels, np.ones(num, np.float32), num)


def make_twin(learner: Learner, **settings: Any) -> Any:
    """The learner's network, of Keras' own layers and to be trained by Keras itself."""
    twin = build_network(learner.config.model, learner.num_classes, learner.config.seed)
    twin.set_weights(learner.weights())
    twin.compile(**settings, jit_compile=False)
    return twin


def step(learner: Learner, rate: float) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    """Take one step; returns what learns before and after it."""
    variables = learner.model.trainable_variables
    before = [np.array(variable) for variable in variables]
    learner.train(make_batch(), rate)
    return before, [np.array(variable) for variable in variables]


def length(arrays: list[NDArray[Any]]) -> float:
    return float(np.sqrt(sum(np.square(array).sum() for array in arrays)))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_focal_loss_is_that_of_keras(smoothing: float, make_config: MakeConfig) -> None:
    import keras

    name = "categorical_focal_crossentropy"
    learner = make_learner(make_config(SEED_HEAD, loss=name, optimizer="SGD", label_smoothing=smoothing))
    loss = keras.losses.CategoricalFocalCrossentropy(label_smoothing=smoothing)
    twin = make_twin(learner, optimizer=keras.optimizers.SGD(0.05), loss=loss)
    for seed in range(2):
        batch = make_batch(seed=seed)
        sums = learner.sum(learner.train(batch, 0.05))
        expected = twin.train_on_batch(batch.inputs.astype(np.float32), np.eye(4)[batch.labels])
        assert sums[0] / sums[3] == pytest.approx(float(expected), rel=1e-4)
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_easy_rows_count_less_in_the_focal_loss() -> None:
    targets = np.eye(4, dtype=np.float32)[[0, 0]]
    probabilities = np.array([[0.91, 0.03, 0.03, 0.03], [0.4, 0.2, 0.2, 0.2]], np.float32)
    focal = loss_function("categorical_focal_crossentropy")(targets, probabilities)
    plain = loss_function("categorical_crossentropy")(targets, probabilities)
    assert_allclose(np.asarray(focal) / plain, 0.25 * np.array([0.09, 0.6]) ** 2, rtol=1e-5)


def test_rows_weigh_what_their_class_does_as_in_keras(make_config: MakeConfig) -> None:
    import keras

    learner = make_learner(make_config(SEED_HEAD, optimizer="SGD", label_smoothing=0.1), WEIGHTS)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=0.1)
    twin = make_twin(learner, optimizer=keras.optimizers.SGD(0.05), loss=loss)
    for seed in range(2):
        batch = make_batch(num=7, seed=seed)
        sums = learner.sum(learner.train(batch, 0.05))
        expected = twin.train_on_batch(
            batch.inputs.astype(np.float32), np.eye(4)[batch.labels], class_weight=dict(enumerate(WEIGHTS))
        )
        assert sums[0] / sums[3] == pytest.approx(float(expected), rel=1e-4)
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_class_weights_are_for_the_training_loss_alone(make_config: MakeConfig) -> None:
    config = make_config(SEED_HEAD)
    plain, weighted = make_learner(config), make_learner(config, WEIGHTS)
    validated = [one.sum(one.validate(make_batch())[0]) for one in (plain, weighted)]
    trained = [one.sum(one.train(make_batch(), 0.0)) for one in (plain, weighted)]
    assert_allclose(validated[0], validated[1], rtol=1e-5)
    assert_allclose(trained[0][1:], trained[1][1:], rtol=1e-5)  # cross-entropy, correct, rows
    assert trained[1][0] != pytest.approx(trained[0][0], rel=1e-3)


def test_gradients_are_clipped_by_their_global_norm(make_config: MakeConfig) -> None:
    free, wide, narrow = (
        step(make_learner(make_config(optimizer="SGD", clip_norm=norm)), rate=0.5)
        for norm in (None, 100.0, 0.01)
    )
    moves = [[a - b for a, b in zip(after, before, strict=True)] for before, after in (free, wide, narrow)]
    norm = length(moves[0]) / 0.5
    assert 0.01 < norm < 100
    assert_allclose(length(moves[2]), 0.5 * 0.01, rtol=1e-3)
    for unclipped, loose, clipped in zip(*moves, strict=True):
        assert_allclose(loose, unclipped, rtol=1e-4, atol=1e-7)
        assert_allclose(clipped, unclipped * 0.01 / norm, rtol=1e-2, atol=1e-7)


@pytest.mark.parametrize("name", ["AdamW", "SGD"])
def test_weights_decay_by_rate_times_decay(name: str, make_config: MakeConfig) -> None:
    before, without = step(make_learner(make_config(optimizer=name)), rate=0.01)
    _, decayed = step(make_learner(make_config(optimizer=name, weight_decay=0.2)), rate=0.01)
    assert {array.ndim for array in before} == {1, 2, 4}
    for start, plain, less in zip(before, without, decayed, strict=True):
        expected = -0.01 * 0.2 * start if start.ndim > 1 else 0 * start
        assert_allclose(less - plain, expected, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize(("decayed", "expected"), [("kernels", [0.98, 1.0, 1.0]), ("all", [0.98] * 3)])
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_biases_and_gammas_do_not_decay_unless_asked_for(
    precision: str, decayed: str, expected: list[float]
) -> None:
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        kernel, gamma, bias = (keras.Variable(np.ones(shape)) for shape in [(2, 3), (3,), ()])
        config = TrainConfig(optimizer="AdamW", weight_decay=0.2, decayed_weights=decayed)
        optimizer = build_optimizer(config, [kernel, gamma, bias])
    finally:
        keras.config.set_dtype_policy(before)
    optimizer.learning_rate.assign(0.1)
    optimizer.apply([np.zeros(each.shape, np.float32) for each in (kernel, gamma, bias)])
    assert_allclose([np.asarray(each).flat[0] for each in (kernel, gamma, bias)], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "gave"),
    [
        ("dice", "one number"),
        ("Tversky", "one number"),
        ("sparse_categorical_crossentropy", "ValueError"),
    ],
)
def test_losses_that_are_none_of_a_row_are_refused(name: str, gave: str) -> None:
    with pytest.raises(
        RunError, match=rf"train\.loss is '{name}', which gave {gave}.*categorical_crossentropy"
    ):
        loss_function(name)


def test_a_loss_that_looks_at_the_whole_batch_is_refused() -> None:
    import keras

    def relative(targets: Any, probabilities: Any) -> Any:
        losses = keras.losses.categorical_crossentropy(targets, probabilities)
        return losses / keras.ops.sum(losses)

    with pytest.raises(RunError, match="gave losses that depend on the other rows"):
        check_rows("relative", relative)


def test_a_step_with_decay_is_the_step_of_keras(make_config: MakeConfig) -> None:
    import keras

    settings = {"optimizer": "AdamW", "weight_decay": 0.2, "clip_norm": 0.5, "decayed_weights": "all"}
    learner = make_learner(make_config(SEED_HEAD, **settings))
    optimizer = keras.optimizers.AdamW(0.01, weight_decay=0.2, global_clipnorm=0.5)
    twin = make_twin(learner, optimizer=optimizer, loss="categorical_crossentropy")
    batch = make_batch()
    learner.train(batch, 0.01)
    twin.train_on_batch(batch.inputs.astype(np.float32), np.eye(4)[batch.labels])
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


def test_a_step_is_a_handful_of_operations_beside_what_is_compiled(make_config: MakeConfig) -> None:
    learner = make_learner(make_config({"head": "seed"}, optimizer="Adam", clip_norm=1.0, ema=0.99))
    graph = learner.train_step.get_concrete_function().graph
    kinds = [operation.type for operation in graph.get_operations()]
    # Gradients and update; the optimizer, the moving average and the batch norms are within these two.
    assert sum("PartitionedCall" in kind for kind in kinds) == 2
    assert sum(kind not in ("Placeholder", "NoOp", "Const", "Identity") for kind in kinds) < 20


class Alone:
    """A strategy of several workers of which one is there: what it adds up is its own. It counts that."""

    def __init__(self, num_workers: int) -> None:
        self.num_replicas_in_sync = num_workers
        self.sums = 0

    def run(self, function: Any, args: tuple[Any, ...]) -> Any:
        self.sums += 1
        return function(*args)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "workers", "settings", "sums", "outside"),
    [
        ("EfficientNetB0", 1, {"use_gpu": True}, 0, range(300)),
        ("EfficientNetB0", 2, {"use_gpu": True}, 1, range(300)),
        ("EfficientNetB0", 2, {}, 5, range(300)),
        ("tiny", 1, {"use_gpu": True, "xla": False}, 0, range(1000, 10_000)),
    ],
)
def test_of_a_step_of_b0_little_is_left_outside_of_what_xla_compiles(
    backbone: str,
    workers: int,
    settings: dict[str, Any],
    sums: int,
    outside: range,
    make_config: MakeConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Simulated: no GPU is there, and the other worker neither."""
    import tensorflow as tf

    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    operations_outside = importlib.import_module("gpu_checks").operations_outside
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: ["a GPU"])
    network = {"backbone": backbone, "height": 32, "width": 32}
    config = make_config(network, clip_norm=1.0, ema=0.99, **settings)
    strategy: Any = Alone(workers)
    learner = Learner(config, 4, strategy)
    before = strategy.sums
    learner.start_epoch(0)
    assert strategy.sums - before == sums, "16 MB of gradients: together between GPUs, else in 4 MB"
    assert operations_outside(learner) in outside


@pytest.mark.parametrize(("batch_norm", "rows"), [("fixed", 5), ("learned", 4)])
def test_a_step_on_a_filled_batch_is_the_step_on_its_rows(
    batch_norm: str, rows: int, make_config: MakeConfig
) -> None:
    """Norms that learn see means over all rows: the same if each row is there twice."""
    config = make_config({"batch_norm": batch_norm, "dropout": 0.0}, optimizer="SGD")
    plain, filled = make_learner(config), make_learner(config)
    batch = replace(make_batch(rows), largest=8)
    more, partner = fill(batch, np.arange(rows, dtype=np.int32)[::-1])
    assert [len(each) for each in (more.inputs, more.labels, more.sample_weight, partner)] == [8] * 4
    assert more.sample_weight.tolist() == [1.0] * rows + [0.0] * (8 - rows)
    assert partner.tolist() == [*range(rows)[::-1], *range(rows)[::-1]][:8]
    assert_allclose(filled.train(more, 0.1), plain.train(batch, 0.1), rtol=1e-5)
    for ours, theirs in zip(filled.weights(), plain.weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    assert fill(more, partner) == (more, partner), "as large as the largest"


def test_a_mixed_step_is_the_step_of_keras_on_mixed_images(make_config: MakeConfig) -> None:
    import keras

    learner = make_learner(make_config(SEED_HEAD, optimizer="SGD", mixup=0.4))
    twin = make_twin(learner, optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    batch = make_batch()
    partner, share, _ = draw_mixture(learner.config.train, 8, learner.config.seed, 1, 0)
    assert 0.5 <= share < 1
    assert sorted(partner) == list(range(8))
    images, targets = batch.inputs.astype(np.float32), np.eye(4, dtype=np.float32)[batch.labels]
    mixed = [share * each + (1 - share) * each[partner] for each in (images, targets)]
    twin.train_on_batch(*mixed)
    learner.train(batch, 0.1)
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)


def test_a_step_of_cutmix_is_the_step_of_keras_on_images_with_a_pasted_box(make_config: MakeConfig) -> None:
    import keras

    learner = make_learner(make_config(SEED_HEAD, optimizer="SGD", cutmix=1.0))
    twin = make_twin(learner, optimizer=keras.optimizers.SGD(0.1), loss="categorical_crossentropy")
    batch = make_batch()
    partner, share, box = draw_mixture(learner.config.train, 8, learner.config.seed, 1, 0)
    side = batch.inputs.shape[1]
    top, bottom, left, right = np.round(box * side).astype(int)
    assert 0 < (bottom - top) * (right - left) < side**2
    images = batch.inputs.copy()
    images[:, top:bottom, left:right] = batch.inputs[partner, top:bottom, left:right]
    labels = np.eye(4, dtype=np.float32)[batch.labels]
    twin.train_on_batch(images.astype(np.float32), share * labels + (1 - share) * labels[partner])
    learner.train(batch, 0.1)
    for ours, theirs in zip(learner.weights(), twin.get_weights(), strict=True):
        assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)


def test_boxes_have_the_drawn_area_where_the_image_does_not_end(make_config: MakeConfig) -> None:
    config = make_config(cutmix=1.0).train
    drawn = [draw_mixture(config, 8, 0, step, 0) for step in range(400)]
    boxes = np.array([one.box for one in drawn])
    heights, widths = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    assert_allclose([one.share for one in drawn], 1 - heights * widths, atol=1e-6)
    whole = (boxes > 0).all(axis=1) & (boxes < 1).all(axis=1)
    assert_allclose(heights[whole], widths[whole], atol=1e-6)
    assert whole.mean() == pytest.approx(1 / 6, abs=0.06), "the mean of (1 - side) ** 2"
    assert boxes.min() == 0
    assert boxes.max() == 1
    shares = [float(np.random.default_rng((0, step, 0)).beta(1, 1)) for step in range(400)]
    assert_allclose(np.array([one.share for one in drawn])[whole], np.array(shares)[whole], atol=1e-6)


def test_cached_features_are_not_cut(make_config: MakeConfig, tiny_weights: str) -> None:
    features = np.random.default_rng(0).random((8, 64), np.float32)
    moved = []
    for cutmix in (None, 1.0):
        model = SEED_HEAD | {"weights": tiny_weights}
        learner = make_learner(make_config(model, optimizer="SGD", cutmix=cutmix, frozen_epochs=1))
        learner.train(replace(make_batch(), inputs=features), 0.1)
        moved.append(learner.weights())
    for plain, ours in zip(*moved, strict=True):
        np.testing.assert_array_equal(plain, ours)


def test_one_way_of_mixing_is_chosen(make_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=r"mixup is 0\.2 and cutmix is 1: expected one of them"):
        make_config(mixup=0.2, cutmix=1.0)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixtures_go_on_after_a_resumption_as_they_would_have(kind: str, make_config: MakeConfig) -> None:
    config = make_config(SEED_HEAD, **{kind: 0.4})
    undisturbed, resumed = make_learner(config), make_learner(config)
    undisturbed.train(make_batch(seed=1), 0.01)
    resumed.load(undisturbed.state())
    for learner in (undisturbed, resumed):
        learner.train(make_batch(seed=2), 0.01)
    for one, other in zip(undisturbed.weights(), resumed.weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_rates_fall_from_the_head_to_the_first_block(make_config: MakeConfig) -> None:
    moved = []
    for decay in (None, 0.5):
        learner = make_learner(make_config(SEED_HEAD, optimizer="SGD", layer_decay=decay))
        before, after = step(learner, 0.1)
        moved.append([b - a for b, a in zip(after, before, strict=True)])
    paths = [variable.path for variable in learner.model.trainable_variables]
    backbone = learner.model.get_layer("backbone")
    blocks = blocks_of(backbone, learner.config.model.backbone_spec)
    assert len(blocks) == 5
    found = set()
    for path, whole, part in zip(paths, *moved, strict=True):
        name = next((block for block in blocks if f"{block}_" in path), None)
        power = 0 if name is None else len(blocks) - blocks.index(name)
        found.add(power)
        assert_allclose(part, whole * 0.5**power, rtol=1e-3, atol=1e-7)
    assert found == {0, 1, 2, 3, 4, 5}
