"""Temperature scaling: it finds the temperature that logits were made with."""

import numpy as np
import pytest

from brain_ray.scoring.calibration import (
    bin_edges,
    bin_of,
    calibrate,
    expected_calibration_error,
    fit_temperature,
    log_loss,
)
from brain_ray.scoring.cross_fitting import cross_calibrate
from brain_ray.scoring.curves import reliability


def softmax(logits: np.ndarray) -> np.ndarray:
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


def drawn(count: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn with the probabilities that they stand for."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 1.5, (count, 4))
    chances = softmax(logits).cumsum(axis=1)
    return logits, (rng.random((count, 1)) > chances).sum(axis=1).clip(max=3)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_recovered(temperature: float) -> None:
    logits, labels = drawn()
    told = softmax(logits * temperature).astype(np.float32)
    found = fit_temperature(told, labels)
    assert found == pytest.approx(temperature, rel=0.05)
    np.testing.assert_allclose(calibrate(told, found), softmax(logits * temperature / found), atol=1e-4)
    assert log_loss(calibrate(told, found), labels) <= log_loss(told, labels) + 1e-9


def test_nothing_is_learned_from_a_split_without_mistakes() -> None:
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7]], np.float32)
    assert fit_temperature(probabilities, np.array([0, 1])) == 1.0


def test_calibration_keeps_certain_answers_finite() -> None:
    changed = calibrate(np.array([[1.0, 0.0], [0.0, 1.0]], np.float32), 2.0)
    assert np.isfinite(changed).all()
    np.testing.assert_array_equal(changed.argmax(axis=1), [0, 1])
    np.testing.assert_allclose(changed.sum(axis=1), 1)


def test_log_loss_is_scikit_learns() -> None:
    from sklearn.metrics import log_loss as reference

    logits, labels = drawn(200)
    chances = softmax(logits)
    assert log_loss(chances, labels) == pytest.approx(reference(labels, chances, labels=range(4)))


@pytest.mark.parametrize("bins", [5, 10, 15, 20])
def test_a_bin_holds_its_upper_edge(bins: int) -> None:
    assert bin_of(bin_edges(bins), bins).tolist() == [0, *range(bins)]
    assert bin_of(np.nextafter(bin_edges(bins)[:-1], 1), bins).tolist() == list(range(bins))


def test_the_calibration_error_has_the_bins_of_the_reliability_diagram() -> None:
    # 0.3 is an edge of ten bins, and ten times it is more than 3: rounding up put it into the fourth bin.
    confidence = np.array([bin_edges(10)[3], 0.35])
    probabilities = np.stack([confidence, *((1 - confidence) / 4 for _ in range(4))], axis=1)
    labels = np.array([0, 1])
    found = reliability(labels, probabilities, 10)
    assert found.counts[2:4].tolist() == [1, 1]
    gaps = np.abs(found.accuracy - found.confidence)[2:4]
    assert expected_calibration_error(probabilities, labels, 10) == pytest.approx(gaps.mean())


def test_calibration_error_of_a_bin_is_its_gap() -> None:
    # Bin (0.5, 0.75]: confidence 0.6 and 0.7, both right. Bin (0.75, 1]: 1.0, wrong.
    probabilities = np.array([[0.6, 0.4], [0.3, 0.7], [1.0, 0.0]])
    found = expected_calibration_error(probabilities, np.array([0, 1, 1]), bins=4)
    assert found == pytest.approx((2 * 0.35 + 1 * 1.0) / 3)
    assert expected_calibration_error(np.eye(3), np.arange(3), bins=15) == 0.0


def test_each_half_of_the_groups_is_calibrated_by_the_other() -> None:
    logits, labels = drawn(4000)
    told = softmax(3 * logits)
    groups = np.arange(4000) // 4
    crossed = cross_calibrate(told, labels, groups)
    assert log_loss(crossed, labels) == pytest.approx(log_loss(softmax(logits), labels), rel=0.02)
    # Other labels of one group change the temperature of the other half only: never its own.
    changed = labels.copy()
    changed[groups == 7] = (changed[groups == 7] + 1) % 4
    again = cross_calibrate(told, changed, groups)
    np.testing.assert_array_equal(again[groups == 7], crossed[groups == 7])
    assert 1000 < (again != crossed).any(axis=1).sum() < 3000


def test_one_group_is_not_calibrated_by_itself() -> None:
    told = np.array([[0.9, 0.1], [0.2, 0.8]])
    np.testing.assert_allclose(cross_calibrate(told, np.array([0, 0]), np.array([5, 5])), told)
