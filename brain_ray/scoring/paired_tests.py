"""Paired tests of two models: McNemar, Holm, bootstrap intervals. Pure functions."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from brain_ray.scoring.curves import Floats

CHUNK = 2_000_000
"""Number of images resampled at a time; the bootstrap needs some 24 bytes of memory for each."""


def mcnemar(first_only: int, second_only: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    McNemar 1947, doi.org/10.1007/BF02295996; for classifiers Dietterich 1998,
    doi.org/10.1162/089976698300017197.

    Args:
        first_only: number of images that only the first model has right.
        second_only: number of images that only the second model has right.
    """
    discordant = first_only + second_only
    return float(binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values, in their order, corrected for their number (Holm 1979, jstor.org/stable/4615733)."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = largest
    return corrected


def bootstrap_means(models: Sequence[Floats], resamples: int, seed: int, chunk: int = CHUNK) -> Floats:
    """Returns means of resampled images and repeats, (resamples, models, scores).

    Each replicate draws the same images for all models, and for each model as many of its repeats as it has.
    Efron and Tibshirani 1993, An Introduction to the Bootstrap. The mean of n drawn repeats has (n - 1) / n
    of the variance that it should have, which matters for the few repeats of a sweep; it is scaled up
    accordingly.

    Args:
        models: for each model an array (repeats, images, scores); the images are the same for all.
        resamples: number of replicates.
        seed: seed of the draws; the same seed gives the same means.
        chunk: largest number of images drawn at a time, which bounds memory.
    """
    rng = np.random.default_rng(seed)
    images, scores = models[0].shape[1:]
    shares = [_draw_repeats(len(one), resamples, rng) for one in models]
    stacked = np.concatenate([np.moveaxis(one, 0, 1).reshape(images, -1) for one in models], axis=1)
    means = np.empty((resamples, len(models), scores))
    step = max(1, chunk // images)
    for start in range(0, resamples, step):
        rows = min(step, resamples - start)
        drawn = rng.integers(images, size=(rows, images)) + images * np.arange(rows)[:, np.newaxis]
        weights = np.bincount(drawn.ravel(), minlength=rows * images).reshape(rows, images)
        totals = (weights.astype(np.float64) @ stacked) / images
        place = 0
        for index, share in enumerate(shares):
            width = share.shape[1] * scores
            repeats = totals[:, place : place + width].reshape(rows, -1, scores)
            means[start : start + rows, index] = np.einsum("br,brs->bs", share[start : start + rows], repeats)
            place += width
    return means


def _draw_repeats(repeats: int, resamples: int, rng: np.random.Generator) -> Floats:
    """Returns the weight of each repeat in each replicate, (resamples, repeats); each row sums to 1."""
    even = 1 / repeats
    shares = rng.multinomial(repeats, np.full(repeats, even), resamples) / repeats
    stretched: Floats = even + (shares - even) * (repeats / max(1, repeats - 1)) ** 0.5
    return stretched
