"""What a choice among models by a test split does to the chosen one's score."""

import numpy as np
import pytest

from brain_ray.scoring.selection import expected_maximum, sum_up_choice


@pytest.mark.parametrize(
    ("count", "mean"), [(1, 0.0), (2, np.pi**-0.5), (3, 1.5 * np.pi**-0.5), (10, 1.53875), (100, 2.50759)]
)
def test_the_largest_of_normal_numbers_is_as_the_tables_say(count: int, mean: float) -> None:
    assert expected_maximum(count) == pytest.approx(mean, abs=1e-5)


def test_the_excess_is_that_of_the_best_of_equal_models() -> None:
    """Simulated: five models that are each right on 90 % of 1,000 images, independently."""
    rng = np.random.default_rng(4)
    scores = rng.binomial(1000, 0.9, (20_000, 5)) / 1000
    reach = 1.959964 * np.sqrt(0.9 * 0.1 / 1000)
    found = sum_up_choice(5, 5, 0.9 - reach, 0.9 + reach)
    assert found["excess"] == pytest.approx((scores.max(axis=1) - 0.9).mean(), rel=0.03)
    assert f"{100 * found['excess']:.1f} points" in found["sentence"]


def test_models_that_err_together_exceed_by_less() -> None:
    """Simulated: half of the variance of the five scores is common to them."""
    rng = np.random.default_rng(4)
    scores = rng.normal(size=(20_000, 5)) + rng.normal(size=(20_000, 1))
    excess = scores.max(axis=1).mean() / np.sqrt(2)
    assert 0.5 < excess < expected_maximum(5)


def test_one_model_is_no_choice() -> None:
    once, twice = (sum_up_choice(1, times, 0.8, 0.9) for times in (1, 2))
    assert once["excess"] == twice["excess"] == 0
    assert once["sentence"].startswith("One model was scored on this test split, counting")
    assert "2 times, with other thresholds" in twice["sentence"]
