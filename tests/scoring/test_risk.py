"""A threshold's answers are wrong as often as allowed, with the probability that was stated."""

import numpy as np
import pytest
from scipy.stats import beta

from brain_ray.scoring.risk import NEVER, answers_needed, risk_threshold


def found(correct: np.ndarray, max_error: float, groups: np.ndarray | None = None, models: int = 1):
    """The threshold of answers whose confidences fall evenly from 1."""
    chance = np.linspace(1.0, 0.5, len(correct))
    whose = np.arange(len(correct)) if groups is None else groups
    return risk_threshold(chance, correct, whose, max_error, 0.95, models)


def test_sixty_images_without_an_error_do_not_show_one_per_cent():
    risk = found(np.ones(60, bool), 0.01)
    assert risk.threshold == NEVER > 1
    assert (risk.needed, risk.answers, risk.bound) == (299, 60, 1.0)


@pytest.mark.parametrize(("max_error", "needed"), [(0.01, 299), (0.02, 149), (0.05, 59), (0.1, 29), (0.5, 5)])
def test_as_many_answers_as_are_needed_are_enough(max_error: float, needed: int):
    assert answers_needed(max_error, 0.95) == needed
    assert found(np.ones(needed, bool), max_error).threshold == 0.0
    assert found(np.ones(needed - 1, bool), max_error).threshold == NEVER


def test_what_is_allowed_decides_at_its_ends():
    assert answers_needed(1.0, 0.95) == 1
    assert found(np.zeros(10, bool), 1.0).threshold == 0.0
    assert found(np.ones(1000, bool), 0.0).threshold == NEVER
    assert found(np.ones(0, bool), 0.1).threshold == NEVER


def test_the_bound_is_the_exact_one():
    correct = np.ones(299, bool)
    assert found(correct, 0.01).bound == pytest.approx(beta.ppf(0.95, 1, 299))


def test_copies_of_a_slice_count_once():
    correct = np.ones(400, bool)
    assert found(correct, 0.01).threshold == 0.0
    alike = found(correct, 0.01, np.arange(400) // 4)
    assert alike.threshold == NEVER
    assert alike.answers == 100


def test_the_epochs_that_were_chosen_from_cost_answers():
    one, twelve = answers_needed(0.05, 0.95), answers_needed(0.05, 0.95, models=12)
    assert (one, twelve) == (59, 107)
    assert found(np.ones(100, bool), 0.05).threshold == 0.0
    assert found(np.ones(100, bool), 0.05, models=12).threshold == NEVER


def test_unsure_answers_that_are_often_wrong_are_withheld():
    correct = np.ones(2000, bool)
    correct[1600::2] = False
    risk = found(correct, 0.02)
    chance = np.linspace(1.0, 0.5, 2000)
    assert 1500 < (chance >= risk.threshold).sum() < 1700
    assert risk.bound <= 0.02


def test_two_errors_among_the_first_answers_do_not_decide_all():
    right = np.ones(118, bool)
    right[[10, 20]] = False
    bounds = {count: beta.ppf(1 - 0.05 / 3, 3, count - 2) for count in (59, 88)}
    assert bounds[59] > 0.1 > bounds[88], "too many for a search that begins with half of them"
    assert found(right, 0.1).threshold == 0
    right[30:40] = False
    assert found(right, 0.1).threshold == NEVER


def test_equal_confidences_are_answered_together():
    chance = np.repeat([0.9, 0.6], [300, 100])
    correct = np.ones(400, bool)
    correct[320:] = False
    risk = risk_threshold(chance, correct, np.arange(400), 0.02, 0.95)
    assert risk.threshold == 0.9


def test_the_true_error_is_above_the_allowed_one_in_no_more_than_five_of_a_hundred_draws():
    rng = np.random.default_rng(0)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        chance = np.where(rng.random(count) < 0.9, 1 - 0.01 * rng.random(count), rng.uniform(0.4, 1, count))
        return chance, rng.random(count) < chance

    known = np.sort(draw(200_000)[0])[::-1]
    errors = np.cumsum(1 - known) / np.arange(1, len(known) + 1)
    exceeded = answered = 0.0
    for _ in range(150):
        chance, correct = draw(600)
        groups = np.arange(600)
        threshold = risk_threshold(chance, correct, groups, 0.02, 0.95).threshold
        given = int((known >= threshold).sum())
        exceeded += given > 0 and errors[given - 1] > 0.02
        answered += given / len(known)
    assert exceeded / 150 <= 0.05
    assert answered / 150 > 0.6
