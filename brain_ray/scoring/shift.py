"""Shift: whether quantities of images are distributed otherwise than in a reference, over groups of images.

The distance is that of Kolmogorov and Smirnov with the same say for each group; how large it is by chance is
known from the same groups, dealt to both sides at random (a permutation test: Good 2005, Permutation,
Parametric and Bootstrap Tests of Hypotheses, chapter 3). It holds for groups of unequal size as far as their
sizes have nothing to do with the quantity.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.scores import Strict

Floats = NDArray[np.float64]

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
    """Distance that groups dealt at random exceed so rarely that any of the quantities does by `LEVEL`."""
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
        """Those that alarm."""
        return {name: found for name, found in self.quantities.items() if found.alarms}


def compare_with(
    reference: Mapping[str, ArrayLike],
    reference_groups: ArrayLike,
    found: Mapping[str, ArrayLike],
    groups: ArrayLike,
    seed: int = 0,
) -> Shift:
    """Compares the quantities that both have.

    Args:
        reference: (m,) finite values of each quantity.
        reference_groups: (m,) groups of these images.
        found: (n,) finite values of each quantity.
        groups: (n,) groups of these images; of other groups than the reference's.
        seed: seed of the random dealing.
    """
    (ours, place), (theirs, their_place) = (
        np.unique(np.asarray(each), return_inverse=True) for each in (reference_groups, groups)
    )
    everywhere = np.concatenate([place, len(ours) + their_place])
    is_found = np.arange(len(ours) + len(theirs)) >= len(ours)
    names = [name for name in reference if name in found]
    tail = LEVEL / max(1, len(names))
    quantities = {}
    for name in names:
        before, after = (np.asarray(each[name], np.float64) for each in (reference, found))
        distances = _distances(np.concatenate([before, after]), everywhere, is_found, seed)
        distance, chance = float(distances[0]), float(np.quantile(distances[1:], 1 - tail))
        quantities[name] = QuantityShift(
            distance=distance,
            by_chance=chance,
            reference=_quartiles(before, place),
            found=_quartiles(after, their_place),
            alarms=distance > max(chance, LEAST),
        )
    return Shift(
        images=len(their_place),
        groups=len(theirs),
        reference_images=len(place),
        reference_groups=len(ours),
        quantities=quantities,
    )


def _distances(values: Floats, place: NDArray[np.intp], is_found: NDArray[np.bool_], seed: int) -> Floats:
    """Returns the distance of two sides, then those of `DRAWS` random dealings of their groups.

    Args:
        values: (n,), of both sides.
        place: (n,) index of each value's group.
        is_found: (groups,), whether a group is of the second side.
        seed: seed of the dealings.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(values, kind="stable")
    ends = np.append(np.diff(values[order]) > 0, True)  # equal values count together
    place = place[order]
    weights = 1 / np.bincount(place)[place]
    sides = np.stack([is_found, *(rng.permutation(is_found) for _ in range(DRAWS))])
    signs = np.where(sides, 1 / is_found.sum(), -1 / (~is_found).sum())
    step = max(1, AT_A_TIME // len(values))
    parts = [
        np.abs(np.cumsum(signs[start : start + step, place] * weights, axis=1)[:, ends]).max(axis=1)
        for start in range(0, len(signs), step)
    ]
    return np.concatenate(parts)


def _quartiles(values: Floats, place: NDArray[np.intp]) -> tuple[float, float, float]:
    weights = 1 / np.bincount(place)[place]
    found = np.quantile(values, [0.25, 0.5, 0.75], method="inverted_cdf", weights=weights)
    low, middle, high = map(float, found)
    return low, middle, high
