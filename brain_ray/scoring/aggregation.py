"""Aggregation: probabilities of the slices of a patient -> one answer for the patient."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brain_ray.scoring.calibration import FLOOR, calibrate, fit_temperature, log_loss
from brain_ray.scoring.cross_fitting import cross_calibrate

Floats = NDArray[np.float64]


def _mean(chances: Floats) -> Floats:
    return np.asarray(chances.mean(axis=0))


def _log_mean(chances: Floats) -> Floats:
    logs = np.log(np.maximum(chances, FLOOR)).mean(axis=0)
    odds = np.exp(logs - logs.max())
    return np.asarray(odds / odds.sum())


def _confident_third(chances: Floats) -> Floats:
    count = -(-len(chances) // 3)
    order = np.argsort(-chances.max(axis=1), kind="stable")
    return np.asarray(chances[order[:count]].mean(axis=0))


Rule = Literal["mean", "log_mean", "confident_third"]

RULES: dict[Rule, Callable[[Floats], Floats]] = {
    "mean": _mean,
    "log_mean": _log_mean,
    "confident_third": _confident_third,
}
"""Rules by name: functions from the probabilities of a patient's n slices, (n, k), to the patient's, (k,).

`mean`: their mean. `log_mean`: the mean of their logarithms, made to sum to 1 (a product of experts: Hinton
2002, doi.org/10.1162/089976602760128018), in which one slice that excludes a class weighs much.
`confident_third`: the mean of the third, at least one, whose most probable class is the most probable. The
order is that of preference where two are equally good.
"""


@dataclass(frozen=True)
class Units:
    """Patients: n images, of which those of one group and class are one unit."""

    place: NDArray[np.intp]
    """(n,), index of each image's unit."""
    labels: NDArray[np.int64]
    """(u,), class of each unit."""
    groups: NDArray[np.intp]
    """(u,), number of its group."""

    @classmethod
    def of(cls, labels: ArrayLike, groups: ArrayLike) -> "Units":
        """Returns the units of images; a patient with images of several classes is a unit in each of them.

        Args:
            labels: (n,) integers, true classes.
            groups: (n,) of any kind that can be sorted.
        """
        truth = np.asarray(labels, np.int64)
        _, whose = np.unique(np.asarray(groups), return_inverse=True)
        pairs, place = np.unique(np.stack([whose, truth], axis=1), axis=0, return_inverse=True)
        return cls(place.ravel(), pairs[:, 1], pairs[:, 0].astype(np.intp))

    def aggregate(self, rule: Rule, chances: NDArray[np.floating]) -> Floats:
        """Returns the probabilities of each unit, (u, k), from those of its images, (n, k)."""
        combine, found = RULES[rule], chances.astype(np.float64)
        order = np.argsort(self.place, kind="stable")
        ends = np.cumsum(np.bincount(self.place, minlength=len(self.labels)))[:-1]
        return np.stack([combine(found[of]) for of in np.split(order, ends)])


@dataclass(frozen=True)
class Aggregation:
    """A rule that was chosen, and what the units' probabilities are by it."""

    rule: Rule
    temperature: float
    """Of the units' probabilities."""
    losses: dict[Rule, float]
    """Log loss of each rule, in nats, by temperatures that were fitted on other groups."""
    chances: Floats
    """(u, k), calibrated."""


def choose_rule(units: Units, chances: NDArray[np.floating]) -> Aggregation:
    """Returns the rule whose answers have the lowest log loss, each unit with the same say.

    Args:
        units: units of the n images.
        chances: (n, k) calibrated probabilities of images that the network has not learned from.
    """
    raw = {rule: units.aggregate(rule, chances) for rule in RULES}
    losses = {
        rule: log_loss(cross_calibrate(found, units.labels, units.groups), units.labels)
        for rule, found in raw.items()
    }
    best = min(losses, key=losses.__getitem__)
    temperature = fit_temperature(raw[best], units.labels)
    return Aggregation(best, temperature, losses, calibrate(raw[best], temperature))
