"""Each class is a candidate of the share of its images that was asked for."""

import numpy as np
import pytest

from brain_ray.scoring.conformal import candidate_floors, candidates


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and labels of three classes, the last of which is hard to tell."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(3, size=count)
    logits = rng.normal(0, 1, (count, 3))
    logits[np.arange(count), labels] += np.array([4.0, 3.0, 1.0])[labels]
    odds = np.exp(logits)
    return odds / odds.sum(axis=1, keepdims=True), labels


def test_each_class_has_its_sensitivity():
    held = np.zeros(3)
    for seed in range(40):
        floors = candidate_floors(*drawn(600, seed), np.arange(600), [0.9, 0.95, 0.98])
        chances, labels = drawn(20_000, 10_000 + seed)
        inside = (chances >= floors)[np.arange(20_000), labels]
        assert (candidates(chances, floors)[np.arange(20_000), labels] >= inside).all()
        held += np.bincount(labels, inside) / np.bincount(labels)
    assert held / 40 == pytest.approx([0.9, 0.95, 0.98], abs=0.015)


def test_copies_decide_no_more_than_one_image():
    chances, labels = drawn(300, 1)
    once = candidate_floors(chances, labels, np.arange(300), [0.9] * 3)
    copies = np.repeat(np.arange(300), np.where(np.arange(300) % 10, 1, 20))
    again = candidate_floors(chances[copies], labels[copies], copies, [0.9] * 3)
    np.testing.assert_array_equal(once, again)


def test_too_few_groups_exclude_no_class():
    chances, labels = drawn(30, 2)
    groups = np.arange(30) // 10
    floors = candidate_floors(chances, labels, groups, [0.95] * 3)
    assert floors.tolist() == [0, 0, 0]
    assert candidates(chances, floors).all()


def test_nineteen_groups_are_enough_for_95_per_cent():
    chances, labels = np.full((19, 1), 0.8), np.zeros(19, int)
    assert candidate_floors(chances, labels, np.arange(19), [0.95])[0] == 0.8
    assert candidate_floors(chances[1:], labels[1:], np.arange(18), [0.95])[0] == 0.0


def test_the_most_probable_class_is_always_a_candidate():
    chances = np.array([[0.4, 0.3, 0.3], [0.1, 0.1, 0.8]], np.float32)
    found = candidates(chances, [0.9, 0.3, 0.9])
    assert found.tolist() == [[True, True, False], [False, False, True]]
