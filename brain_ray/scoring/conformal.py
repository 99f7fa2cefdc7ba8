"""Candidates: the classes that cannot be excluded at a stated sensitivity, by class-conditional conformal
sets."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


def candidate_floors(
    chances: ArrayLike, labels: ArrayLike, groups: ArrayLike, sensitivities: Sequence[float]
) -> Floats:
    """Returns for each class the probability from which on it is a candidate, (k,); 0: it always is one.

    Of new images of a class, in groups like those here, the class is a candidate for at least the share that
    was asked for: split conformal prediction, for each class by itself (Vovk 2012,
    arxiv.org/abs/1209.2673; Sadinle et al. 2019, arxiv.org/abs/1609.00451). Images of one group count as one
    together, and the groups of the class decide, of which one more is taken to be unlike all (Lee et al.
    2023, arxiv.org/abs/2306.06342). The share is that of random calibration images, not of each set of them.

    Args:
        chances: (n, k) calibrated probabilities of images that the network has not learned from.
        labels: (n,) integers, their true classes.
        groups: (n,) of any kind that can be sorted.
        sensitivities: k shares, 0..1.
    """
    found, truth, whose = np.asarray(chances, np.float64), np.asarray(labels), np.asarray(groups)
    floors = np.zeros(found.shape[1])
    for k, sensitivity in enumerate(sensitivities):
        mine = truth == k
        _, place, sizes = np.unique(whose[mine], return_inverse=True, return_counts=True)
        own = found[mine, k]
        order = np.argsort(-own, kind="stable")
        weight = np.cumsum(1 / sizes[place][order]) / (len(sizes) + 1)
        enough = np.flatnonzero(weight >= sensitivity - 1e-12)
        floors[k] = own[order][enough[0]] if len(enough) else 0.0
    return floors


def candidates(chances: ArrayLike, floors: ArrayLike) -> NDArray[np.bool_]:
    """Returns which classes are candidates of each image, (n, k) bool; the most probable one always is.

    Args:
        chances: (n, k) calibrated probabilities.
        floors: (k,), of `candidate_floors`.
    """
    found = np.asarray(chances)
    chosen = found >= np.asarray(floors, found.dtype)
    chosen[np.arange(len(found)), found.argmax(axis=1)] = True
    return np.asarray(chosen, bool)
