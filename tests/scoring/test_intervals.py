"""Intervals hold the truth as often as they say, whatever the groups."""

import numpy as np
import pytest

from brain_ray.scoring.intervals import GroupBootstrap, effective_number


def slices(copies: int, seed: int, right: float = 0.95, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image is right, and its slice; copies of a slice get the same answer."""
    answers = np.random.default_rng(seed).random(count) < right
    return np.repeat(answers, copies), np.repeat(np.arange(count), copies)


@pytest.mark.parametrize("copies", [1, 4])
def test_a_share_is_held_with_and_without_copies(copies: int):
    held = 0
    for seed in range(200):
        answers, groups = slices(copies, seed)
        found = GroupBootstrap(groups, 400, seed).share(answers)
        assert found.low <= found.value <= found.high
        held += found.low <= 0.95 <= found.high
    assert 0.91 <= held / 200 <= 0.99


def test_a_mean_of_skewed_losses_is_held():
    held = 0
    for seed in range(200):
        losses = np.random.default_rng(seed).exponential(1.0, 150) ** 2
        found = GroupBootstrap(np.arange(150), 400, seed).mean(losses)
        held += found.low <= 2.0 <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_copies_make_an_interval_no_narrower():
    answers, groups = slices(1, 3)
    once = GroupBootstrap(groups).share(answers)
    answers, groups = slices(4, 3)
    often = GroupBootstrap(groups).share(answers)
    naive = GroupBootstrap(np.arange(len(groups))).share(answers)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.05)
    assert naive.high - naive.low < 0.6 * (often.high - often.low)


def test_answers_without_an_error_prove_no_perfection():
    found = GroupBootstrap(np.arange(50)).share(np.ones(50, bool))
    assert found.value == found.high == 1.0
    assert 0.9 < found.low < 0.97  # the exact interval reaches down to 0.929
    none = GroupBootstrap(np.arange(50)).share(np.zeros(50, bool))
    assert none.value == none.low == 0.0
    assert none.high == pytest.approx(1 - found.low, abs=0.01)


def test_a_share_of_some_images_takes_only_these():
    answers = np.arange(100) % 2 == 0
    some = np.arange(100) < 50
    bootstrap = GroupBootstrap(np.arange(100))
    assert bootstrap.share(answers & some, some).value == 0.5
    nothing = bootstrap.share(answers & ~some & some, np.zeros(100))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()


def test_the_same_seed_gives_the_same_interval():
    answers, groups = slices(2, 5)
    assert GroupBootstrap(groups, seed=4).share(answers) == GroupBootstrap(groups, seed=4).share(answers)
    assert GroupBootstrap(groups, seed=4).share(answers) != GroupBootstrap(groups, seed=5).share(answers)


def test_names_of_groups_do_not_matter():
    answers, groups = slices(3, 6)
    named = np.array([f"patient {group:04d}" for group in groups])
    assert GroupBootstrap(groups).share(answers) == GroupBootstrap(named).share(answers)


def test_a_mean_of_equal_values_has_no_spread():
    found = GroupBootstrap(np.arange(10)).mean(np.full(10, 0.25))
    assert (found.value, found.low, found.high) == (0.25, 0.25, 0.25)


def test_groups_of_one_size_count_one_each():
    assert effective_number([3, 3, 3, 3]) == 4
    assert effective_number([100, 1, 1]) < 1.1


def test_many_groups_are_joined_and_the_interval_is_theirs():
    """Images of a group are right or wrong together; with 40,000 groups of three the normal law holds."""
    right = np.random.default_rng(1).random(40_000) < 0.9
    answers, groups = np.repeat(right, 3), np.repeat(np.arange(40_000), 3)
    bootstrap = GroupBootstrap(groups, 1000)
    found = bootstrap.share(answers)
    assert bootstrap.num_groups == bootstrap.groups_of(np.ones(120_000, bool)) == 40_000
    width = 2 * 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 40_000)
    assert found.high - found.low == pytest.approx(width, rel=0.1)
    assert bootstrap.mean(answers).high - found.value == pytest.approx(width / 2, rel=0.1)
    few = groups < 60
    assert bootstrap.groups_of(few) == 60
    alone = GroupBootstrap(groups[few]).share(answers[few])
    within = bootstrap.share(answers & few, few)
    assert within.high - within.low == pytest.approx(alone.high - alone.low, rel=0.25)
