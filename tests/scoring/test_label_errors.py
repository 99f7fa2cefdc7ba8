"""Wrong labels that were planted among predictions of known quality are found, the likeliest first."""

import numpy as np
from numpy.testing import assert_array_equal

from brain_ray.scoring.label_errors import find_label_errors


def predictions(labels: np.ndarray, accuracy_of_logits: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(labels), 4))
    logits[np.arange(len(labels)), labels] += accuracy_of_logits
    chances = np.exp(logits)
    return chances / chances.sum(axis=1, keepdims=True)


def test_planted_errors_stand_first() -> None:
    rng = np.random.default_rng(3)
    true = rng.integers(0, 4, 2000)
    chances = predictions(true, 5.0, 4)
    given = true.copy()
    planted = rng.choice(2000, 60, replace=False)
    given[planted] = (given[planted] + rng.integers(1, 4, 60)) % 4
    found = find_label_errors(given, chances)
    top = found.suspects[:60]
    assert np.isin(top, planted).mean() >= 0.8
    assert np.isin(planted, top).mean() >= 0.7
    hit = np.isin(found.suspects, planted)
    assert (found.suggested[hit] == true[found.suspects[hit]]).mean() > 0.95
    assert (np.diff(found.margin) >= 0).all()


def test_a_class_is_held_against_what_its_own_images_reach() -> None:
    """0.55 is little for class 0, whose images have 0.9, and much for class 1, whose images have 0.5."""
    chances = np.array([[0.9, 0.1], [0.9, 0.1], [0.5, 0.5], [0.5, 0.5], [0.45, 0.55], [0.55, 0.45]])
    given = np.array([0, 0, 1, 1, 0, 1])
    found = find_label_errors(given, chances)
    assert_array_equal(found.suspects, [4])
    assert_array_equal(found.suggested, [1])
    assert_array_equal(found.margin.round(2), [-0.1])


def test_right_labels_and_missing_classes_are_no_suspects() -> None:
    chances = np.array([[0.9, 0.05, 0.05], [0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1]])
    found = find_label_errors([0, 1, 0, 1], chances)
    assert len(found.suspects) == 0
    assert np.isinf(found.thresholds[2])
