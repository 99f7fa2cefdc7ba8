"""Cross-fitted temperatures: no image's group has a part in its own, and halves are halves."""

import numpy as np
import pytest

from brain_ray.scoring.calibration import calibrate, fit_temperature, log_losses
from brain_ray.scoring.cross_fitting import cross_fitted_losses, draw_halves


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def noisy(images: int, sharpness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, 4))
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits)])
    return softmax(sharpness * logits), labels


def test_halves_cut_no_group_and_are_even() -> None:
    groups = np.repeat(np.arange(60), np.random.default_rng(0).integers(1, 15, 60))
    halves = draw_halves(groups, seed=3, splits=5)
    for half in halves:
        assert all(len(set(half[groups == group])) == 1 for group in range(60))
        assert half.mean() == pytest.approx(0.5, abs=0.05)
    assert len({half.tobytes() for half in halves}) == 5
    assert np.array_equal(halves, draw_halves(groups, seed=3, splits=5))
    assert not np.array_equal(halves, draw_halves(groups, seed=4, splits=5))


def test_an_image_is_scored_by_the_temperature_of_the_other_half() -> None:
    chances, labels = noisy(400, 3.0, 1)
    half = np.arange(400) < 150
    found = cross_fitted_losses(chances, labels, half[np.newaxis])
    temperature = fit_temperature(chances[half], labels[half])
    expected = log_losses(calibrate(chances[~half], temperature), labels[~half])
    assert found[~half] == pytest.approx(expected)


def test_a_scalar_changes_nothing_and_a_mean_hides_no_image() -> None:
    groups = np.arange(600) // 2
    sharp, labels = noisy(600, 3.0, 2)
    soft, again = noisy(600, 0.4, 2)
    assert np.array_equal(labels, again)
    halves = draw_halves(groups, 7)
    first, second = (cross_fitted_losses(one, labels, halves) for one in (sharp, soft))
    assert first == pytest.approx(second, abs=2e-3)
    assert first.mean() < log_losses(sharp, labels).mean()
    assert first.shape == (600,)


def test_the_draw_of_the_halves_hardly_matters() -> None:
    chances, labels = noisy(600, 2.0, 5)
    means = [
        cross_fitted_losses(chances, labels, draw_halves(np.arange(600), seed)).mean() for seed in range(6)
    ]
    assert np.ptp(means) < 0.005 * np.mean(means)


def test_one_group_alone_is_scored_as_it_is() -> None:
    chances, labels = noisy(20, 2.0, 6)
    losses = cross_fitted_losses(chances, labels, draw_halves(np.zeros(20, int), 0))
    assert losses == pytest.approx(log_losses(chances, labels))
