"""Shift: whether quantities of images are distributed otherwise than in a reference, over groups of images.

The distance is that of Kolmogorov and Smirnov with the same say for each group; how large it is by chance is
known from the same groups, dealt to both sides at random (a permutation test: Good 2005, Permutation,
Parametric and Bootstrap Tests of Hypotheses, chapter 3). It holds for groups of unequal size as far as their
sizes have nothing to do with the quantity.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.intervals import Floats, group_weights
from brain_ray.scoring.scores import Strict

DRAWS = 1000
"""Number of times that the groups are dealt anew."""

LEVEL = 0.05
"""Chance that any quantity alarms if both sides are from the same place."""

LEAST = 0.1
"""Smallest distance that alarms, whatever chance is: a tenth of the groups are elsewhere."""

AT_A_TIME = 4_000_000
"""Largest number of weights that are summed at a time."""


class QuantityShift(Strict):
    """A quantity of the images and of the reference."""

    distance: float
    """Largest difference of the two distribution functions, 0..1."""
    by_chance: float
    """Distance that groups from one place exceed so rarely that any of the quantities does by the level."""
    reference: tuple[float, float, float]
    """Quartiles, each group with the same say."""
    found: tuple[float, float, float]
    alarms: bool


class Shift(Strict):
    """Quantities of images beside those of a reference."""

    images: int
    groups: int
    reference_images: int
    reference_groups: int
    quantities: dict[str, QuantityShift]

    @property
    def alarms(self) -> dict[str, QuantityShift]:
        """Those that alarm, the most distant first."""
        ranked = sorted(self.quantities.items(), key=lambda one: -one[1].distance)
        return {name: found for name, found in ranked if found.alarms}


def compare_with(
    reference: Mapping[str, ArrayLike],
    reference_groups: ArrayLike,
    found: Mapping[str, ArrayLike],
    groups: ArrayLike,
    seed: int = 0,
    level: float = LEVEL,
    draws: int = DRAWS,
) -> Shift:
    """Compares the quantities that both have.

    Without draws, what is due to chance is that of as many independent values as there are groups, by the
    asymptotic distribution of Kolmogorov and Smirnov (Massey 1951, doi.org/10.1080/01621459.1951.10500769):
    quick, good for levels that no number of draws would show, and careful where a group's images differ.

    Args:
        reference: (m,) finite values of each quantity.
        reference_groups: (m,) groups of these images.
        found: (n,) finite values of each quantity.
        groups: (n,) groups of these images; of other groups than the reference's.
        seed: seed of the random dealing.
        level: chance that any quantity alarms if both sides are from the same place.
        draws: number of times that the groups are dealt anew; 0: never.
    """
    (ours, place), (theirs, their_place) = (
        np.unique(np.asarray(each), return_inverse=True) for each in (reference_groups, groups)
    )
    everywhere = np.concatenate([place, len(ours) + their_place])
    weights, their_weights = group_weights(place), group_weights(their_place)
    all_weights = np.concatenate([weights, their_weights])
    signs = _deal(len(ours), len(theirs), seed, draws)
    names = [name for name in reference if name in found]
    tail = level / max(1, len(names))
    asymptotic = math.sqrt(-math.log(tail / 2) / 2 * (1 / len(ours) + 1 / len(theirs)))
    quantities = {}
    for name in names:
        before, after = (np.asarray(each[name], np.float64) for each in (reference, found))
        distances = _distances(np.concatenate([before, after]), everywhere, all_weights, signs)
        distance = min(1.0, float(distances[0]))  # sums of weights end a little beside 1
        chance = float(np.quantile(distances[1:], 1 - tail)) if draws else min(1.0, asymptotic)
        quantities[name] = QuantityShift(
            distance=distance,
            by_chance=chance,
            reference=_quartiles(before, weights),
            found=_quartiles(after, their_weights),
            alarms=distance > max(chance, LEAST),
        )
    return Shift(
        images=len(their_place),
        groups=len(theirs),
        reference_images=len(place),
        reference_groups=len(ours),
        quantities=quantities,
    )


def _deal(ours: int, theirs: int, seed: int, draws: int) -> Floats:
    """Returns what each group counts in the difference of two sides, as they are and in random dealings:
    (1 + draws, groups)."""
    rng = np.random.default_rng(seed)
    is_found = np.arange(ours + theirs) >= ours
    sides = np.stack([is_found, *(rng.permutation(is_found) for _ in range(draws))])
    return np.where(sides, 1 / theirs, -1 / ours)


def _distances(values: Floats, place: NDArray[np.intp], weights: Floats, signs: Floats) -> Floats:
    """Returns the distance of two sides in each dealing, (dealings,).

    Args:
        values: (n,), of both sides.
        place: (n,) index of each value's group.
        weights: (n,), of each value in its group.
        signs: (dealings, groups), from `_deal`.
    """
    order = np.argsort(values, kind="stable")
    ends = np.append(np.diff(values[order]) > 0, True)  # equal values count together
    place, weights = place[order], weights[order]
    step = max(1, AT_A_TIME // len(values))
    parts = [
        np.abs(np.cumsum(signs[start : start + step, place] * weights, axis=1)[:, ends]).max(axis=1)
        for start in range(0, len(signs), step)
    ]
    return np.concatenate(parts)


def _quartiles(values: Floats, weights: Floats) -> tuple[float, float, float]:
    found = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf", weights=weights)
    low, middle, high = map(float, found)
    return low, middle, high
