"""A shift is told where there is one, over groups, and rarely where there is none."""

import numpy as np
import pytest

from brain_ray.scoring.shift import LEAST, Shift, compare_with

NAMES = ("a", "b", "c", "d")


def images(
    rng: np.random.Generator, groups: int, moved: float = 0.0
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Draw groups of one to thirty images, which are much alike within a group."""
    of = np.repeat(np.arange(groups), rng.integers(1, 31, groups))
    values = {name: rng.normal(size=groups)[of] + 0.3 * rng.normal(size=len(of)) for name in NAMES}
    values["a"] = values["a"] + moved
    return values, of


def compare(seed: int, moved: float, groups: int = 60) -> Shift:
    rng = np.random.default_rng(seed)
    (before, ours), (after, theirs) = images(rng, 100), images(rng, groups, moved)
    return compare_with(before, ours, after, theirs, seed, draws=200)


def test_groups_from_the_same_place_rarely_alarm() -> None:
    """With each image as its own group, 37 of 40 such draws alarm: images are much alike within a group."""
    alarmed = sum(bool(compare(seed, 0.0).alarms) for seed in range(60))
    assert alarmed <= 8, "3 of 60 are expected, more than 8 in 0.4 % of draws"


def test_a_shift_is_found_and_named() -> None:
    found = [compare(seed, 1.0) for seed in range(20)]
    assert sum("a" in one.alarms for one in found) >= 19
    one = found[0].quantities["a"]
    assert one.found[1] - one.reference[1] == pytest.approx(1.0, abs=0.5)
    assert one.distance > one.by_chance
    assert found[0].groups == 60
    assert found[0].reference_groups == 100


def test_the_distance_is_that_of_the_groups_means_of_distribution_functions() -> None:
    before, ours = {"a": np.array([0.0, 0.0, 0.0, 1.0])}, np.array([0, 0, 0, 1])
    after, theirs = {"a": np.array([1.0, 1.0, 2.0])}, np.array([5, 5, 6])
    found = compare_with(before, ours, after, theirs).quantities["a"]
    assert found.distance == pytest.approx(0.5), "at 0 half of the groups against none"
    assert found.reference == (0.0, 0.0, 1.0)
    assert not found.alarms, "of two and two groups each dealing is likely"


def test_tiny_differences_of_many_images_do_not_alarm() -> None:
    rng = np.random.default_rng(0)
    before, after = ({"a": rng.normal(size=4000) + moved} for moved in (0.0, 0.15))
    found = compare_with(before, np.arange(4000), after, np.arange(4000)).quantities["a"]
    assert found.by_chance < found.distance < LEAST
    assert not found.alarms


def test_quantities_that_one_side_lacks_are_left_out() -> None:
    rng = np.random.default_rng(0)
    found = compare_with(
        {"a": rng.normal(size=9), "b": rng.normal(size=9)}, np.arange(9), {"b": [1.0, 2.0]}, [0, 1]
    )
    assert set(found.quantities) == {"b"}
