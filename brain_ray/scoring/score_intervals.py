"""Intervals of all scores of class probabilities, over groups of images."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from brain_ray.scoring.calibration import bin_of, log_losses
from brain_ray.scoring.intervals import Floats, GroupBootstrap, Interval, ratio

Ints = NDArray[np.int64]

TRIED = 150
"""Number of true calibration errors that are tried for the interval of one."""


def score_intervals(
    truth: Ints, chances: Floats, classes: Sequence[str], bins: int, bootstrap: GroupBootstrap
) -> dict[str, tuple[float, float]]:
    """Returns the ends of the interval of each score that is defined, by the dotted name that it has in
    `Scores`.

    Args:
        truth: (n,) true classes.
        chances: (n, k) probabilities.
        classes: k names.
        bins: of the calibration error.
        bootstrap: resamples of the n images.
    """
    found = dict(_of_predictions(truth, chances.argmax(axis=1), classes, bootstrap))
    found |= dict(_areas(truth, chances, classes, bootstrap))
    found |= probability_intervals(truth, chances, bins, bootstrap)
    return {
        name: (max(0.0, one.low), one.high)
        for name, one in found.items()
        if np.isfinite([one.low, one.high]).all()
    }


def probability_intervals(
    truth: Ints, chances: Floats, bins: int, bootstrap: GroupBootstrap
) -> dict[str, Interval]:
    """Returns the intervals of log loss, Brier score and calibration error of (n, k) probabilities."""
    actual = truth[:, np.newaxis] == np.arange(chances.shape[1])
    top = chances.max(axis=1)
    gaps = (chances.argmax(axis=1) == truth) - top
    binned = np.zeros((len(truth), bins))
    binned[np.arange(len(truth)), bin_of(top, bins)] = gaps
    return {
        "log_loss": bootstrap.mean(log_losses(chances, truth)),
        "brier": bootstrap.mean(((chances - actual) ** 2).sum(axis=1)),
        "ece": _absolute_sum(binned, bootstrap.contributing(gaps), bootstrap),
    }


def _absolute_sum(values: Floats, units: float, bootstrap: GroupBootstrap) -> Interval:
    """Returns the sum of the absolute values of m means over the images, with its interval.

    Such a sum grows with noise, so that its resamples lie above it. The interval has those true sums beside
    which the found one is neither among the smallest nor among the largest: each is tried, with the means in
    the found proportion and the resamples' deviations from them (inverting a test: Efron and Tibshirani 1993,
    An Introduction to the Bootstrap, 12.3).

    Args:
        values: (n, m).
        units: effective number of groups that it rests on.
        bootstrap: resamples of the n images.
    """
    drawn, means = bootstrap.sums(np.hstack([values, np.ones((len(values), 1))])), values.mean(axis=0)
    noise = drawn[:, :-1] / drawn[:, -1:] - means
    value, tail = float(np.abs(means).sum()), bootstrap.tail(units)
    largest = value + float(np.abs(noise).sum(axis=1).max())
    fitting = []
    for true in np.linspace(0, largest, TRIED):
        likely = np.abs(means * (true / max(value, 1e-300)) + noise).sum(axis=1)
        low, high = np.quantile(likely, [tail, 1 - tail])
        if low <= value <= high:
            fitting.append(float(true))
    fitting = fitting or [0.0, value]  # of less noise than is usual even about a true sum of 0
    return Interval(value, min(fitting), max(fitting))


def _of_predictions(
    truth: Ints, predicted: Ints, classes: Sequence[str], bootstrap: GroupBootstrap
) -> Iterator[tuple[str, Interval]]:
    yield "accuracy", bootstrap.share(truth == predicted)
    numbers = np.arange(len(classes))
    actual, said = truth[:, np.newaxis] == numbers, predicted[:, np.newaxis] == numbers
    both = (actual & said).astype(np.float64)
    # Each a share of sums over images: F1 = 2 both / (actual + said).
    parts = {"precision": (both, said), "recall": (both, actual), "f1": (2 * both, 0.0 + actual + said)}
    present = actual.any(axis=0)
    for name, (above, below) in parts.items():
        resampled = bootstrap.shares(above, below)
        sizes = np.asarray(below, np.float64).sum(axis=0)
        values = ratio(above.sum(axis=0), sizes)
        for k in map(int, np.flatnonzero(present)):
            # A class that is never predicted has a precision of 0, as in `score`.
            value = 0.0 if np.isnan(values[k]) else float(values[k])
            yield f"per_class.{classes[k]}.{name}", bootstrap.around(value, resampled[:, k])
        value = float(np.nan_to_num(values[present]).mean())
        # The groups that `shares` adds to each class would move their mean by as much as each of them.
        plain = ratio(*np.hsplit(bootstrap.sums(np.hstack([above, below])), 2))[:, present]
        influences = (above - np.nan_to_num(values) * below) / np.maximum(sizes, 1)
        moved = influences[:, present].mean(axis=1)
        yield f"macro.{name}", bootstrap.around(value, _known_mean(plain), bootstrap.contributing(moved))


def _known_mean(values: Floats) -> Floats:
    """Returns the mean of each row's numbers, (n,), NaN where there is none."""
    known = np.isfinite(values)
    return ratio(np.where(known, values, 0).sum(axis=1), known.sum(axis=1))


def _areas(
    truth: Ints, chances: Floats, classes: Sequence[str], bootstrap: GroupBootstrap
) -> Iterator[tuple[str, Interval]]:
    """Yields the areas under ROC curves with the interval of Obuchowski (1997, doi.org/10.2307/2533958) for
    grouped images, on the scale of log odds, where it does not leave 0..1."""
    actual = truth[:, np.newaxis] == np.arange(len(classes))
    defined = np.flatnonzero(actual.any(axis=0) & ~actual.all(axis=0)).tolist()
    if not defined:
        return
    areas, influences = zip(*(_area(actual[:, k], chances[:, k]) for k in defined), strict=True)
    for k, area, influence in zip(defined, areas, influences, strict=True):
        yield f"auc.per_class.{classes[k]}", _log_odds_interval(area, influence, actual[:, k], bootstrap)
    fewest = actual[:, min(defined, key=lambda k: actual[:, k].sum())]
    macro = np.mean(influences, axis=0)
    yield "auc.macro", _log_odds_interval(float(np.mean(areas)), macro, fewest, bootstrap)
    area, influence = _area(actual.ravel(), chances.ravel())
    pooled = influence.reshape(actual.shape).sum(axis=1)
    yield "auc.micro", _log_odds_interval(area, pooled, np.ones(len(truth), bool), bootstrap)


def _area(actual: NDArray[np.bool_], chances: Floats) -> tuple[float, Floats]:
    """Returns the area, and how much each of the n images moves it: (n,), with the sum 0."""
    from scipy.stats import rankdata

    positives, negatives = int(actual.sum()), int((~actual).sum())
    among_all = rankdata(chances)
    own = np.empty(len(chances))
    own[actual], own[~actual] = rankdata(chances[actual]), rankdata(chances[~actual])
    # The share of the other kind that an image beats; for a negative, that beats it. Ties count half.
    placement = np.where(actual, among_all - own, positives - among_all + own)
    placement /= np.where(actual, negatives, positives)
    area = float(placement[actual].mean())
    return area, (placement - area) / np.where(actual, positives, negatives)


def _log_odds_interval(
    area: float, influence: Floats, rarer: NDArray[np.bool_], bootstrap: GroupBootstrap
) -> Interval:
    """Returns an area's interval; of a perfect one, as far as a share of the `rarer` images' groups."""
    if area in (0.0, 1.0):
        found = bootstrap.share(rarer * area, rarer)
        return Interval(area, found.low, found.high)
    error = bootstrap.standard_error(influence) / (area * (1 - area))
    freedom = bootstrap.contributing(influence)
    odds = np.log(area / (1 - area)) + np.array([-1, 1]) * bootstrap.reach(freedom) * error
    low, high = 1 / (1 + np.exp(-odds))
    return Interval(area, float(low), float(high))
