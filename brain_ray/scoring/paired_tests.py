"""Differences of two models on the same images: sign-flip test, Holm, noise of images and of seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import t

from brain_ray.scoring.curves import Floats
from brain_ray.scoring.intervals import GroupBootstrap


def sign_flip(totals: ArrayLike) -> float:
    """Returns the two-sided p-value of Fisher's randomisation test of paired differences, exactly.

    If two models are equally good, the sign of each group's difference is a matter of chance: p is the share
    of all choices of signs whose sum is at least as far from 0 (Smucker et al. 2007,
    doi.org/10.1145/1321440.1321528). Where each group is one image, it is McNemar's exact test.

    Args:
        totals: (groups,) whole numbers: by how many right answers the second model has more in a group.
    """
    values = np.rint(np.asarray(totals, np.float64)).astype(np.int64)
    steps, reached = np.abs(values), abs(int(values.sum()))
    chances = np.ones(1)
    for step in steps[steps > 0]:  # of a sum of -k, -k + 2, ... k, by index 0, 1, ...
        chances = 0.5 * (np.pad(chances, (0, step)) + np.pad(chances, (step, 0)))
    sums = np.abs(2 * np.arange(len(chances)) - (len(chances) - 1))
    return float(min(1.0, chances[sums >= reached].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values, in their order, corrected for their number (Holm 1979, jstor.org/stable/4615733)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


@dataclass(frozen=True)
class SeedNoise:
    """Standard deviation of one repeat's mean score around its variant's, and its degrees of freedom."""

    sd: float
    freedom: int


def seed_noise(variants: Iterable[Floats]) -> SeedNoise | None:
    """Returns the noise of the seed, pooled over variants of (repeats, images) scores; None if each has one.

    The variances within the variants are averaged with their degrees of freedom as weights, as in an analysis
    of variance.
    """
    squares, freedom = 0.0, 0
    for scores in variants:
        means = scores.mean(axis=1)
        squares += float(((means - means.mean()) ** 2).sum())
        freedom += len(means) - 1
    return SeedNoise((squares / freedom) ** 0.5, freedom) if freedom else None


@dataclass(frozen=True)
class Difference:
    """A difference of two models' mean scores, second minus first."""

    value: float
    low: float
    """Lower end of its interval, for the noise of groups of images and, if known, of seeds."""
    high: float
    error: float
    """Standard error: the root of the summed variances of both noises."""


def compare_means(
    first: Floats, second: Floats, bootstrap: GroupBootstrap, seeds: SeedNoise | None, confidence: float
) -> Difference:
    """Returns the difference of two models' mean scores, with its interval.

    The variance is V = V_groups + s^2 (1/R1 + 1/R2). V_groups is that of the mean of the images' differences,
    each averaged over R1 and R2 repeats, over groups of images; s is the noise of the seed. The group part
    has an interval by the bootstrap-t, the seed part one by Student's t with the degrees of freedom of s; the
    distances of their ends add up as squares (Zou and Donner 2008, doi.org/10.1002/sim.3095). What varies
    between seeds by image counts in both parts, so that the interval is rather too wide than too narrow, as
    in Owen 2007, doi.org/10.1214/07-AOAS122.

    Args:
        first: (R1, images) scores of the first model's repeats.
        second: (R2, images) scores of the second model's.
        bootstrap: of the groups of these images, with the same confidence.
        seeds: noise of the seed; None if not known: the interval then holds that of the images alone.
        confidence: 0.5..1, of the two-sided interval.
    """
    values = second.mean(axis=0) - first.mean(axis=0)
    values[np.abs(values) < 1e-12] = 0.0  # equal predictions, summed in another order
    found = bootstrap.mean(values)
    reach, variance = 0.0, group_error(values, bootstrap) ** 2
    if seeds is not None:
        error = seeds.sd * (1 / len(first) + 1 / len(second)) ** 0.5
        reach, variance = error * float(t.ppf((1 + confidence) / 2, seeds.freedom)), variance + error**2
    down, up = (float(np.hypot(end, reach)) for end in (found.value - found.low, found.high - found.value))
    return Difference(found.value, found.value - down, found.value + up, variance**0.5)


def group_error(values: Floats, bootstrap: GroupBootstrap) -> float:
    """Returns the standard error of the mean of (images,) values, with groups as the independent units.

    Liang and Zeger 1986, doi.org/10.1093/biomet/73.1.13, with the factor G / (G - 1) for G groups.
    """
    return bootstrap.standard_error((values - values.mean()) / len(values))
