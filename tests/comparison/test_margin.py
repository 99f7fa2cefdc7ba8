"""The sequence of tests: it ends at the first failure, passes over what is worse, and errs in 5 % at most."""

import numpy as np
import pytest

from brain_ray.comparison.margin import last_within_margin
from brain_ray.scoring.paired_tests import Difference


def deficit(value: float, reach: float = 0.01) -> Difference:
    return Difference(value, value - reach, value + reach, reach / 2)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([], None),
        ([0.0], 0),
        ([0.005, -0.01, 0.009], 2),
        ([0.015], None),  # not shown: 0.015 + 0.01 is above 0.02
        ([0.0, 0.015, 0.0], 0),  # the first that is not shown ends it
        ([0.0, 0.5, 0.0], 2),  # one that is worse is passed over
        ([0.5, 0.02], None),
        ([0.01], None),  # an end at the margin is not below it
    ],
)
def test_the_last_before_the_first_failure_is_taken(values: list[float], place: int | None) -> None:
    assert last_within_margin([deficit(value) for value in values], 0.02) == place


@pytest.mark.parametrize("number", [1, 3, 12])
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_models_that_are_worse_by_the_margin_are_chosen_in_five_percent_at_most(
    number: int, shared: float
) -> None:
    rng = np.random.default_rng(number)
    draws, wrong = 8000, 0
    for _ in range(draws):
        noise = shared**0.5 * rng.normal() + (1 - shared) ** 0.5 * rng.normal(size=number)
        deficits = [deficit(1.0 + each, reach=1.96) for each in noise]
        wrong += last_within_margin(deficits, 1.0) is not None
    assert wrong / draws < 0.058
