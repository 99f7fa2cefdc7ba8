"""Scores of a cross-validation: pooled over folds, and calibrated by other folds alone."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from brain_ray.scoring.calibration import calibrate, fit_temperature
from brain_ray.scoring.cross_validation import (
    SeedAverage,
    calibrate_across,
    format_cross_validation,
    score_folds,
)

CLASSES = ("a", "b", "c")


def answers(images: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, images)
    logits = rng.normal(size=(images, 3)) * 3
    logits[np.arange(images), labels] += 3
    chances = np.exp(logits)
    return labels, chances / chances.sum(axis=1, keepdims=True)


def test_no_fold_is_calibrated_by_its_own_labels() -> None:
    labels, chances = answers()
    folds = np.arange(300) % 3
    before = calibrate_across(chances, labels, folds, np.arange(300))
    spoiled = np.where(folds == 1, (labels + 1) % 3, labels)
    after = calibrate_across(chances, spoiled, folds, np.arange(300))
    assert_array_equal(before[folds == 1], after[folds == 1])
    assert np.abs(before[folds == 0] - after[folds == 0]).max() > 0.01
    others = folds != 2
    expected = calibrate(chances[folds == 2], fit_temperature(chances[others], labels[others]))
    assert_allclose(before[folds == 2], expected)


def test_images_of_a_group_that_folds_cut_do_not_calibrate_each_other() -> None:
    labels, chances = answers()
    folds, groups = np.arange(300) % 2, np.arange(300)
    groups[:10] = 0  # five images in each fold
    spoiled = labels.copy()
    spoiled[1:10:2] = (labels[1:10:2] + 1) % 3  # of fold 1
    before, after = (calibrate_across(chances, one, folds, groups) for one in (labels, spoiled))
    assert_array_equal(before[folds == 0], after[folds == 0])


def test_pooled_scores_are_of_all_images_and_folds_of_their_own() -> None:
    labels, chances = answers()
    folds, patients = np.repeat([1, 2, 3], 100), np.array([f"p{i // 10}" for i in range(300)])
    found = score_folds(
        labels,
        chances,
        calibrate_across(chances, labels, folds, np.arange(300) // 10),
        folds,
        np.arange(300) // 10,
        CLASSES,
        np.arange(300),
        patients,
    )
    right = chances.argmax(axis=1) == labels
    assert found.pooled.accuracy == pytest.approx(right.mean())
    assert found.pooled.groups == 30
    assert found.pooled.accuracy_low < right.mean() < found.pooled.accuracy_high
    assert [one.right for one in found.folds] == right.reshape(3, 100).sum(axis=1).tolist()
    assert [one.groups for one in found.folds] == [10, 10, 10]
    assert found.accuracy_sd == pytest.approx(right.reshape(3, 100).mean(axis=1).std(ddof=1))
    assert found.pooled.units["slice"].units == 300
    text = format_cross_validation(found)
    assert "cross-validation, 3 folds: 300 images of 30 groups" in text
    assert f"   2     100      10    {found.folds[1].accuracy:.4f}" in text
    assert "seeds" not in text
    mean = found.model_copy(update={"averaged": SeedAverage(seeds=3, pooled=found.pooled)})
    told = format_cross_validation(mean).removeprefix(text)
    assert told.startswith("\n\nmean of the answers of 3 seeds to each fold\n")
    assert "per patient" in told


def test_one_fold_alone_is_calibrated_by_halves_of_its_groups() -> None:
    labels, chances = answers()
    found = score_folds(
        labels,
        chances,
        calibrate_across(chances, labels, np.full(300, 4), np.arange(300)),
        np.full(300, 4),
        np.arange(300),
        CLASSES,
    )
    assert found.accuracy_sd is None
    assert found.pooled.calibrated is not None
    assert found.pooled.calibrated.log_loss != found.pooled.log_loss
    assert list(found.pooled.units) == []
