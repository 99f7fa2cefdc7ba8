"""Noise of a comparison: differences of variants, over groups of images and over seeds."""

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from brain_ray.comparison.results import ModelResult, Pair
from brain_ray.scoring.curves import Floats
from brain_ray.scoring.intervals import GroupBootstrap
from brain_ray.scoring.paired_tests import (
    Difference,
    SeedNoise,
    compare_means,
    group_error,
    holm,
    seed_noise,
    sign_flip,
)
from brain_ray.tuning.image_scores import ImageScores

FAR = 5.0
"""Standard errors (of the images alone) by which a variant is so much worse than the best one that it says
nothing about the noise of the seed near the best."""


class Noise:
    """Differences of variants, for the noise of images and of seeds."""

    def __init__(
        self, variants: Mapping[int, ImageScores], best: int, bootstrap: GroupBootstrap, confidence: float
    ) -> None:
        self.variants, self._bootstrap, self._confidence = variants, bootstrap, confidence
        least = variants[best].loss.mean(axis=0)
        self._near = {best}
        for number, one in variants.items():
            deficit = one.loss.mean(axis=0) - least
            if deficit.mean() <= FAR * group_error(deficit, bootstrap):
                self._near.add(number)

    def near_best(self, of: str, *others: int) -> SeedNoise | None:
        """Returns the noise of the seed of the variants near the best one, and of some others."""
        return seed_noise(getattr(self.variants[number], of) for number in sorted({*self._near, *others}))

    def difference(self, first: int, second: int, of: str) -> Difference:
        """Returns the difference of two variants in one of the `ImageScores`."""
        a, b = (getattr(self.variants[number], of) for number in (first, second))
        seeds = self.near_best(of, first, second)
        return compare_means(a, b, self._bootstrap, seeds, self._confidence)

    def groups_right(self, first: int, second: int) -> tuple[Floats, Floats]:
        """Returns how much more often the second variant is right, as whole numbers: (images,), (groups,)."""
        a, b = self.variants[first].right, self.variants[second].right
        images = b.sum(axis=0) * len(a) - a.sum(axis=0) * len(b)
        return images, self._bootstrap.totals(images[:, np.newaxis])[:, 0]


def make_pairs(contenders: Sequence[ModelResult], noise: Noise) -> list[Pair]:
    """Returns all pairs of contenders, in their order."""
    places = list(combinations(contenders, 2))
    right = [noise.groups_right(a.variant, b.variant) for a, b in places]
    p_values = [sign_flip(groups) for _, groups in right]
    pairs = []
    for (a, b), (images, _), p, p_holm in zip(places, right, p_values, holm(p_values), strict=True):
        loss, accuracy = (noise.difference(a.variant, b.variant, of) for of in ("loss", "right"))
        first, second = noise.variants[a.variant], noise.variants[b.variant]
        pairs.append(
            Pair(
                first=a.model,
                second=b.model,
                loss=loss,
                cross_entropy=float(second.cross_entropy.mean() - first.cross_entropy.mean()),
                calibrated=float(second.calibrated.mean() - first.calibrated.mean()),
                accuracy=accuracy,
                first_only=int((images < 0).sum()),
                second_only=int((images > 0).sum()),
                p=p,
                p_holm=p_holm,
                within_noise=loss.low <= 0 <= loss.high,
            )
        )
    return pairs
