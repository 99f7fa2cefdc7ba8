"""Differences of two models, against values worked out by hand and against known noise."""

import itertools
import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.paired_tests import SeedNoise, compare_means, group_error, holm, seed_noise, sign_flip


def test_the_sign_flip_test_of_single_images_is_mcnemars_exact_test() -> None:
    assert sign_flip([1] * 9 + [-1]) == pytest.approx(22 / 1024)  # 2 (C(10, 0) + C(10, 1)) / 2^10
    for first, second in ((0, 0), (5, 5), (3, 12), (0, 7)):
        totals = [-1] * first + [1] * second + [0] * 20
        known = binomtest(first, first + second).pvalue if first + second else 1.0
        assert sign_flip(totals) == pytest.approx(known)


def test_the_sign_flip_test_is_the_share_of_all_choices_of_signs() -> None:
    totals = [3, -1, 2, 2, -4, 5]
    sums = [abs(np.dot(signs, totals)) for signs in itertools.product((-1, 1), repeat=len(totals))]
    assert sign_flip(totals) == pytest.approx(np.mean([each >= abs(sum(totals)) for each in sums]))


def test_copies_do_not_make_the_sign_flip_test_surer() -> None:
    assert sign_flip([3, 3, 3, -3]) == sign_flip([1, 1, 1, -1])


def test_holm_multiplies_by_the_tests_that_are_left_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_noise_of_the_seed_is_pooled_with_its_degrees_of_freedom() -> None:
    flat = [np.tile(np.array(means)[:, np.newaxis], 5) for means in ([0.0, 2.0], [1.0, 2.0, 3.0], [7.0])]
    assert seed_noise(flat) == SeedNoise(pytest.approx(((2 + 2) / 3) ** 0.5), 3)
    assert seed_noise(flat[2:]) is None
    assert seed_noise([]) is None


def test_without_seeds_the_interval_is_that_of_the_groups() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.exponential(1.0, (1, 4000)), rng.exponential(1.1, (1, 4000))
    bootstrap = GroupBootstrap(np.arange(4000), 3000)
    found = compare_means(first, second, bootstrap, None, 0.95)
    values = (second - first)[0]
    half = 1.959964 * values.std(ddof=1) / math.sqrt(4000)
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half), abs=0.1 * half)
    assert found.error == pytest.approx(values.std(ddof=1) / math.sqrt(4000))


def test_noise_of_the_seed_widens_it_by_students_t() -> None:
    flat, noise = np.zeros((2, 50)), SeedNoise(0.3, 4)
    found = compare_means(flat, flat + 1.0, GroupBootstrap(np.arange(50), 200), noise, 0.95)
    assert found.error == pytest.approx(0.3)  # 0.3 sqrt(1/2 + 1/2)
    assert found.high == pytest.approx(1.0 + 0.3 * t.ppf(0.975, 4))
    assert found.low == pytest.approx(1.0 - 0.3 * t.ppf(0.975, 4))


def test_equal_predictions_differ_by_exactly_nothing() -> None:
    scores = np.random.default_rng(0).exponential(0.1, (3, 100))
    found = compare_means(scores, scores[::-1].copy(), GroupBootstrap(np.arange(100), 200), None, 0.95)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_the_standard_error_does_not_fall_with_copies(copies: int) -> None:
    values = np.random.default_rng(1).normal(size=100)
    groups = np.repeat(np.arange(100), copies)
    found = group_error(np.repeat(values, copies), GroupBootstrap(groups, 100))
    assert found == pytest.approx(values.std(ddof=1) / 10)
