"""A network that learns from outlines too: it tells where a tumour is, and is the same network as without."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from support.training_problem import MakeConfig, quarters

from brain_ray.config import Config
from brain_ray.data.outline_masks import mask_size
from brain_ray.loading.loader import Batch
from brain_ray.training.tensorflow.learner import Learner
from brain_ray.training.tensorflow.mixing import Mixture
from brain_ray.training.tensorflow.one_shape import fill
from brain_ray.training.tensorflow.outline_head import OutlineHead, class_masks, share_matrix

KNOWN = {"outlines": "outlines.json", "optimizer": "SGD", "learning_rate": 0.05}


def make_learner(config: Config, epoch: int = 0) -> Learner:
    import tensorflow as tf

    learner = Learner(config, 4, tf.distribute.get_strategy())
    learner.start_epoch(epoch)
    return learner


def make_batch(config: Config, num: int = 8, seed: int = 0, known: float = 1.0) -> Batch:
    """Images whose bright quarter is outlined."""
    images, labels = quarters(num, seed)
    height, width = mask_size(config)
    masks = np.zeros((num, height, width), np.uint8)
    for mask, label in zip(masks, labels, strict=True):
        top, left = divmod(int(label), 2)
        mask[top * height // 2 :, left * width // 2 :][: height // 2, : width // 2] = 255
    outlined = np.full(num, known, np.float32)
    return Batch(images, labels, np.ones(num, np.float32), num, num, masks, outlined)


@pytest.mark.parametrize(("pixels", "places"), [(64, 8), (64, 7), (43, 5), (3, 5)])
def test_places_share_the_pixels(pixels: int, places: int) -> None:
    shares = share_matrix(pixels, places)
    assert_allclose(shares.sum(axis=1), 1, rtol=1e-5)
    assert_allclose(shares.sum(axis=0), places / pixels, rtol=1e-5)
    if pixels % places == 0:
        line = np.random.default_rng(0).random(pixels)
        assert_allclose(shares @ line, line.reshape(places, -1).mean(axis=1), rtol=1e-5)


def test_the_loss_is_the_cross_entropy_of_the_places(make_config: MakeConfig) -> None:
    config = make_config(outlines="o", outline_weight=0.5)
    head = OutlineHead(make_learner(make_config()).model, config, 4)
    batch = make_batch(config, num=4)
    assert batch.masks is not None
    rows, columns = head.model.output_shape[1][1:3]
    logits = np.random.default_rng(1).normal(size=(4, rows, columns, 5)).astype(np.float32)
    targets, weights = np.eye(4, dtype=np.float32)[batch.labels], np.array([1, 1, 0, 1], np.float32)
    found = float(head.loss(logits, class_masks(batch.masks, targets), weights))
    logs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    expected = 0.0
    for image in (0, 1, 3):
        covered = share_matrix(64, rows) @ (batch.masks[image] / 255) @ share_matrix(64, columns).T
        of_class, none = logs[image, ..., batch.labels[image]], logs[image, ..., 4]
        expected -= 0.5 * (covered * of_class + (1 - covered) * none).mean()
    assert found == pytest.approx(expected, rel=1e-4)


def test_a_trained_network_tells_where_the_tumour_is(make_config: MakeConfig) -> None:
    config = make_config({"bn_momentum": 0.5}, **KNOWN | {"optimizer": "Adam", "outline_weight": 5.0})
    learner = make_learner(config)
    for step in range(150):
        learner.train(make_batch(config, 16, step), 0.01)
    images, labels = quarters(16, 999)
    assert learner.forward.outlines is not None
    _, logits = learner.forward.outlines.model(images.astype(np.float32), training=False)
    rows, columns = logits.shape[1:3]
    told = np.asarray(logits).argmax(axis=-1)
    right = []
    for image, label in zip(told, labels, strict=True):
        top, left = divmod(int(label), 2)
        inside = np.zeros((rows, columns), bool)
        inside[top * rows // 2 :, left * columns // 2 :][: rows // 2, : columns // 2] = True
        right.append((np.where(inside, label, 4) == image).mean())
    assert np.mean(right) > 0.9


def test_images_without_an_outline_teach_the_classes_alone(make_config: MakeConfig) -> None:
    plain, with_head = make_learner(make_config(optimizer="SGD")), make_learner(make_config(**KNOWN))
    for seed in range(2):
        batch = make_batch(with_head.config, seed=seed, known=0.0)
        sums = [one.sum(one.train(batch, 0.05)) for one in (plain, with_head)]
        assert_allclose(*sums, rtol=1e-5)
    for ours, theirs in zip(with_head.weights(), plain.weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)
    before = with_head.weights()
    with_head.train(make_batch(with_head.config), 0.05)
    plain.train(make_batch(with_head.config), 0.05)
    moved = [np.abs(a - b).max() for a, b in zip(with_head.weights(), plain.weights(), strict=True)]
    assert max(moved) > 1e-5, "an outline does teach something"
    assert len(before) == len(plain.weights())


def test_half_of_the_rows_and_the_other_half_add_up_to_all(make_config: MakeConfig) -> None:
    """As the workers' parts of a batch do."""
    config = make_config({"batch_norm": "fixed", "dropout": 0.0}, **KNOWN)
    whole = make_batch(config)
    moves = []
    for part in (slice(None), slice(0, 3), slice(3, None)):
        learner = make_learner(config)
        before = learner.weights()
        fields = (whole.inputs, whole.labels, whole.sample_weight, whole.masks, whole.outlined)
        inputs, labels, weights, masks, outlined = (field[part] for field in fields)  # type: ignore[index]
        learner.train(Batch(inputs, labels, weights, 8, 8, masks, outlined), 0.05)
        moves.append([a - b for a, b in zip(learner.weights(), before, strict=True)])
    for together, first, second in zip(*moves, strict=True):
        assert_allclose(together, first + second, rtol=1e-3, atol=1e-6)


def test_a_learner_goes_on_from_its_state(make_config: MakeConfig) -> None:
    config = make_config({"dropout": 0.0}, **KNOWN | {"optimizer": "Adam", "mixup": 0.4})
    undisturbed, first, second = (make_learner(config) for _ in range(3))
    for learner in (undisturbed, first):
        learner.train(make_batch(config), 0.05)
    second.load(first.state())
    for learner in (undisturbed, second):
        learner.train(make_batch(config, seed=1), 0.05)
    for ours, theirs in zip(second.state()["outlines"], undisturbed.state()["outlines"], strict=True):
        assert_allclose(ours, theirs, rtol=1e-5)
    for ours, theirs in zip(second.weights(), undisturbed.weights(), strict=True):
        assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_a_frozen_backbone_learns_nothing_from_them(make_config: MakeConfig) -> None:
    config = make_config(**KNOWN, frozen_epochs=1, cache_features=False)
    learner = make_learner(config)
    head = [np.array(variable) for variable in learner.state()["outlines"]]
    learner.train(make_batch(config), 0.05)
    for after, before in zip(learner.state()["outlines"], head, strict=True):
        assert_allclose(after, before)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_mixed_image_shows_each_tumour_with_its_own_class(kind: str, make_config: MakeConfig) -> None:
    import tensorflow as tf

    config = make_config(**KNOWN | {kind: 1.0})
    learner, batch = make_learner(config), make_batch(config)
    assert batch.masks is not None
    assert batch.outlined is not None
    targets = np.eye(4, dtype=np.float32)[batch.labels]
    batch.outlined[2] = 0
    box = np.array([0.25, 0.75, 0.5, 1.0], np.float32)
    mixture = Mixture(np.roll(np.arange(8, dtype=np.int32), 1), np.float32(0.75), box)
    _, _, masks, known = learner.forward.prepare(
        mixture, tf.constant(batch.inputs), targets, batch.masks, batch.outlined
    )
    own = (batch.masks / 255)[..., None] * targets[:, None, None]
    outside = np.full((64, 64, 1), 0.75)
    if kind == "cutmix":
        outside[:] = 1
        outside[16:48, 32:64] = 0
    assert_allclose(masks, outside * own + (1 - outside) * np.roll(own, 1, axis=0), atol=1e-6)
    assert_array_equal(known, [1, 1, 0, 0, 1, 1, 1, 1])


def test_rows_that_fill_a_batch_bring_their_masks(make_config: MakeConfig) -> None:
    batch = replace(make_batch(make_config(**KNOWN), num=3), largest=8)
    filled, _ = fill(batch, np.arange(3, dtype=np.int32))
    assert filled.masks is not None
    assert filled.outlined is not None
    assert batch.masks is not None
    assert_array_equal(filled.masks, batch.masks[[0, 1, 2, 0, 1, 2, 0, 1]])
    assert len(filled.outlined) == len(filled.labels) == 8
