"""Intervals of scores by a bootstrap over groups of images: patients, or what else is never split."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
"""Number of resamples behind an interval."""

CONFIDENCE = 0.95

CHUNK = 4_000_000
"""Largest number of counts (how often a group is in a resample) that are drawn at a time."""

DRAWN = 10_000
"""Largest number of groups that are drawn one by one."""

FEW = 30
"""Effective number of groups below which standard errors of resamples are not relied on."""


@dataclass(frozen=True)
class Interval:
    """A score and the two ends of its interval; NaN where it is undefined."""

    value: float
    low: float
    high: float


class GroupBootstrap:
    """Resamples of the groups that n images belong to, the same for every score that is asked of it.

    Images of one group (of a patient, of a study, copies of one slice) are no independent observations. So
    whole groups are drawn with replacement, and a score is computed of the images of those drawn (Field and
    Welsh 2007, doi.org/10.1111/j.1467-9868.2007.00593.x). For few groups, the percentiles are moved outwards
    (Hesterberg 2015, doi.org/10.1080/00031305.2015.1089789), with Kish's effective number of groups where
    these differ in size.

    More than `DRAWN` groups are joined at random to so many, which are drawn in their place. The sums of some
    random groups vary as the groups do; the ends of an interval are less exact by a hundredth of its width.
    """

    def __init__(
        self, groups: ArrayLike, resamples: int = RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE
    ) -> None:
        """Takes the group of each image, (n,) of any kind that can be sorted."""
        names, self._group = np.unique(np.asarray(groups), return_inverse=True)
        self.num_groups = len(names)
        self._drawn = min(DRAWN, self.num_groups)
        joined = np.arange(self.num_groups)
        if self._drawn < self.num_groups:
            joined = np.random.default_rng([seed, 2]).permutation(self.num_groups) % self._drawn
        self._place = joined[self._group]
        """Which of the drawn ones each image is in, (n,)."""
        self.units = effective_number(np.bincount(self._place, minlength=self._drawn))
        self.resamples, self._seed, self._confidence = resamples, seed, confidence
        self._held: list[Floats] = []

    @property
    def num_images(self) -> int:
        """Number of images, n."""
        return len(self._place)

    def groups_of(self, images: ArrayLike) -> int:
        """Returns the number of groups of the images that an (n,) bool array names."""
        return len(np.unique(self._group[np.asarray(images, bool)]))

    def totals(self, values: ArrayLike) -> Floats:
        """Returns (n, m) values of images, summed over each group that is drawn: (drawn, m)."""
        numbers = np.asarray(values, np.float64)
        totals = np.empty((self._drawn, numbers.shape[1]))
        for k in range(numbers.shape[1]):
            totals[:, k] = np.bincount(self._place, numbers[:, k], self._drawn)
        return totals

    def counts(self) -> Sequence[Floats]:
        """Returns how often each group is in each resample: parts of a (resamples, drawn) array."""
        if not self._held:
            rng = np.random.default_rng(self._seed)
            even = np.full(self._drawn, 1 / max(1, self._drawn))
            step = max(1, CHUNK // max(1, self._drawn))
            for start in range(0, self.resamples, step):
                rows = min(step, self.resamples - start)
                self._held.append(rng.multinomial(self._drawn, even, rows).astype(np.float64))
        return self._held

    def standard_error(self, influence: ArrayLike) -> float:
        """Returns the standard error of a score that each image moves by its (n,) influence."""
        moved = self.totals(np.asarray(influence, np.float64)[:, np.newaxis])[:, 0]
        groups = max(2, self._drawn)
        return float(np.sqrt((moved**2).sum() * groups / (groups - 1)))

    def contributing(self, influence: ArrayLike) -> float:
        """Returns the effective number of groups that a score's error comes from, at least 2.

        Where all is right but for a few groups, these alone tell how far the score may be off: they are the
        degrees of freedom of its standard error (Satterthwaite 1946, doi.org/10.2307/3002019).

        Args:
            influence: (n,), how much each image moves the score.
        """
        squares = self.totals(np.asarray(influence, np.float64)[:, np.newaxis])[:, 0] ** 2
        return max(2.0, effective_number(squares))

    def reach(self, freedom: float) -> float:
        """Returns the number of standard errors from a score to the ends of its interval: a quantile of
        Student's t with `freedom` degrees of freedom."""
        from scipy.stats import t

        return float(t.ppf((1 + self._confidence) / 2, freedom))

    def sums(self, values: ArrayLike) -> Floats:
        """Returns (n, m) values summed over the images of each resample: (resamples, m)."""
        return self._resample(self.totals(values))

    def _resample(self, totals: Floats) -> Floats:
        """Returns (groups, m) totals summed over the groups of each resample: (resamples, m)."""
        return np.concatenate([counts @ totals for counts in self.counts()])

    def shares(self, above: ArrayLike, below: ArrayLike) -> Floats:
        """Returns resamples of m shares (0..1), each a sum over images by another: (resamples, m).

        Where nearly all answers are right, as here, resamples of the few wrong ones tell too little, and
        resamples of none tell nothing. So two groups of middle size are added to each share, one all right,
        one all wrong, as Agresti and Coull (1998, doi.org/10.1080/00031305.1998.10480550) add answers.

        Args:
            above: (n, m), between 0 and `below`, as whether an image is of a class and found.
            below: (n, m), as whether it is of that class.
        """
        parts, wholes = self.totals(above), self.totals(below)
        middle = (wholes**2).sum(axis=0) / np.maximum(wholes.sum(axis=0), 1e-300)
        groups = (wholes > 0).sum(axis=0)
        # A resample holds each of the added groups as often as it holds any other.
        rng = np.random.default_rng([self._seed, 1])
        right, wrong = (
            rng.binomial(groups + 2, 1 / (groups + 2), size=(2, self.resamples, parts.shape[1])) * middle
        )
        drawn_parts, drawn_wholes = np.hsplit(self._resample(np.hstack([parts, wholes])), 2)
        return ratio(drawn_parts + right, drawn_wholes + right + wrong)

    def share(self, above: ArrayLike, below: ArrayLike | None = None) -> Interval:
        """Returns the share that (n,) `above` are of (n,) `below`, with its interval.

        For example, whether an image's answer is right, and whether it was answered; without `below`, of all
        images. For other numbers than shares use `mean`.
        """
        parts = np.asarray(above, np.float64)[:, np.newaxis]
        wholes = np.ones_like(parts) if below is None else np.asarray(below, np.float64)[:, np.newaxis]
        point = float(ratio(parts.sum(), wholes.sum()))
        if np.isnan(point):
            return Interval(point, point, point)
        units = effective_number(self.totals(wholes)[:, 0])
        return self.around(point, self.shares(parts, wholes)[:, 0], units)

    def mean(self, values: ArrayLike) -> Interval:
        """Returns the mean of (n,) values over the images, with its interval by the bootstrap-t.

        Each resample's distance from the mean is measured in its own standard error (Efron and Tibshirani
        1993, An Introduction to the Bootstrap, 12.5), since losses are skewed: a few images have most of it.
        Of fewer than `FEW` groups, resamples hold some that have hardly any error: percentiles are taken.
        """
        numbers = np.asarray(values, np.float64)
        point = float(numbers.mean())
        totals = self.totals(np.stack([numbers, np.ones_like(numbers)], axis=1))
        products = np.stack([totals[:, 0] ** 2, totals[:, 0] * totals[:, 1], totals[:, 1] ** 2], axis=1)
        spread = float(_standard_error(totals.sum(axis=0), products.sum(axis=0)))
        if spread == 0:
            return Interval(point, point, point)
        drawn = self._resample(np.hstack([totals, products]))
        sums = drawn[:, :2]
        if self.units < FEW:
            return self.between(point, ratio(sums[:, 0], sums[:, 1]))
        errors = _standard_error(sums, drawn[:, 2:])
        distance = ratio(ratio(sums[:, 0], sums[:, 1]) - point, errors)
        tail = (1 - self._confidence) / 2
        low, high = np.quantile(distance[np.isfinite(distance)], [tail, 1 - tail])
        return Interval(point, point - float(high) * spread, point - float(low) * spread)

    def between(self, value: float, resampled: Floats, units: float | None = None) -> Interval:
        """Returns a score with the interval that its resampled values, (resamples,), give it.

        `units` is the effective number of groups, by default of all images.
        """
        known = resampled[np.isfinite(resampled)]
        if not np.isfinite(value) or not len(known):
            return Interval(value, np.nan, np.nan)
        tail = self.tail(self.units if units is None else units)
        low, high = np.quantile(known, [tail, 1 - tail])
        return Interval(value, float(low), float(high))

    def tail(self, units: float) -> float:
        """Returns the share of resamples to leave out at each end for an effective number of groups
        (Hesterberg 2015)."""
        from scipy.stats import norm, t

        units = max(units, 2.0)
        reach = np.sqrt(units / (units - 1)) * t.ppf((1 + self._confidence) / 2, units - 1)
        return float(norm.cdf(-reach))

    def around(self, value: float, resampled: Floats, units: float | None = None) -> Interval:
        """As `between`, with ends that hold the value, which the groups that `shares` adds may have moved."""
        found = self.between(value, resampled, units)
        return Interval(value, min(value, found.low), max(value, found.high))

    def statistic(self, score: Callable[[Floats], Floats], values: ArrayLike) -> Interval:
        """Returns a score of sums over images, with its interval.

        Args:
            score: maps sums, (..., m), to scores, (...); NaN where undefined.
            values: (n, m), of whose sums over the images it is a function.
        """
        numbers = np.asarray(values, np.float64)
        return self.between(float(score(numbers.sum(axis=0))), score(self.sums(numbers)))


def group_weights(groups: ArrayLike) -> Floats:
    """Returns the weights of (n,) images with which each of their groups has the same say: 1 / its size."""
    _, place, sizes = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    return np.asarray(1 / sizes[place], np.float64)


def effective_number(sizes: ArrayLike) -> float:
    """Returns Kish's effective number of groups of the given (groups,) sizes: (sum m)^2 / sum m^2."""
    numbers = np.asarray(sizes, np.float64)
    return float(numbers.sum() ** 2 / max((numbers**2).sum(), 1e-300))


def ratio(above: ArrayLike, below: ArrayLike) -> Floats:
    """Returns above / below, NaN where `below` is 0; arrays of one shape."""
    numbers = np.asarray(above, np.float64)
    blank = np.full(numbers.shape, np.nan)
    return np.asarray(np.divide(numbers, below, out=blank, where=np.asarray(below) > 0))


def _standard_error(sums: Floats, products: Floats) -> Floats:
    """Returns the standard error of a ratio of sums over groups, linearised.

    Args:
        sums: (..., 2), of a and b over the groups; the ratio is the first by the second.
        products: (..., 3), sums of a * a, a * b and b * b.
    """
    mean = ratio(sums[..., 0], sums[..., 1])
    squares = products[..., 0] - 2 * mean * products[..., 1] + mean**2 * products[..., 2]
    return np.asarray(np.sqrt(np.maximum(squares, 0)) / np.maximum(sums[..., 1], 1e-300))
