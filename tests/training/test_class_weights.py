"""Rows weigh what the settings say, by class."""

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.utils.class_weight import compute_class_weight

from brain_ray.errors import RunError
from brain_ray.training.class_weights import class_weights, split_weights

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
COUNTS = np.array([1, 4, 2, 3])


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    weights = class_weights("balanced", COUNTS, CLASSES)
    rows = np.repeat(np.arange(4), COUNTS)
    assert_allclose(weights, compute_class_weight("balanced", classes=np.arange(4), y=rows), rtol=1e-6)
    assert weights[rows].mean() == pytest.approx(1)
    assert weights.dtype == np.float32


def test_no_weights_are_1_and_given_ones_are_as_given() -> None:
    assert_array_equal(class_weights("none", COUNTS, CLASSES), np.ones(4, np.float32))
    given = class_weights((0.5, 0, 2, 1), COUNTS, CLASSES)
    assert_array_equal(given, np.array([0.5, 0, 2, 1], np.float32))


@pytest.mark.parametrize(
    ("setting", "counts", "message"),
    [
        ("balanced", [3, 0, 2, 0], "no rows of meningioma, pituitary: give the weights"),
        ((1.0, 2.0), COUNTS, "has 2 numbers: expected one for each of the 4 classes, glioma, "),
        ((1.0, -0.5, 1.0, 1.0), COUNTS, r"is \[1.0, -0.5, 1.0, 1.0\]: expected finite numbers from 0 up"),
        ((1.0, float("nan"), 1.0, 1.0), COUNTS, "nan.*expected finite"),
        ((1.0, float("inf"), 1.0, 1.0), COUNTS, "inf.*expected finite"),
        ((0.0, 0.0, 0.0, 0.0), COUNTS, "not all of them 0"),
    ],
)
def test_weights_that_make_no_sense_are_refused(setting: Any, counts: Any, message: str) -> None:
    with pytest.raises(RunError, match=message):
        class_weights(setting, np.asarray(counts), CLASSES)


def test_the_balance_is_described_by_name() -> None:
    counts = {"train": COUNTS, "test": np.zeros(4, np.int64)}
    described = split_weights(CLASSES, counts, class_weights("balanced", COUNTS, CLASSES))
    assert described["split/train/meningioma"] == pytest.approx(0.4)
    assert described["split/test/glioma"] == 0
    assert described["class_weight/glioma"] == pytest.approx(2.5)
    assert len(described) == 12
