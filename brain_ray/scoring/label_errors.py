"""Confident learning: labels that are likely wrong, by out-of-fold probabilities."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class LabelErrors:
    """Images whose label a model that did not see them contradicts with confidence."""

    suspects: NDArray[np.intp]
    """(m,) positions of the images, the likeliest error first."""
    suggested: NDArray[np.intp]
    """(m,) the class that each is likely of."""
    margin: NDArray[np.float64]
    """(m,), the given class's probability less the suggested one's, rising; above 0 where the suggested class
    is less probable, and yet confident."""
    thresholds: NDArray[np.float64]
    """(classes,), the probability from which on an image is confidently of a class; infinite for a class
    without images."""


def find_label_errors(labels: ArrayLike, probabilities: ArrayLike) -> LabelErrors:
    """Finds likely wrong labels by confident learning.

    Northcutt, Jiang and Chuang 2021, J. of Artificial Intelligence Research 70, arxiv.org/abs/1911.00068.

    An image is confidently of a class if its probability reaches the mean that images with that label have.
    Of several such classes the most probable one counts. Where it is not the given one, the label is
    suspected: the off-diagonal part of the paper's confident joint. Suspects are ranked by the margin between
    the two probabilities.

    Args:
        labels: (n,) integers, the given classes.
        probabilities: (n, classes), of models that learned neither from the image nor from its group.
    """
    given, chances = np.asarray(labels, np.intp), np.asarray(probabilities, np.float64)
    numbers = np.arange(chances.shape[1])
    own = chances[np.arange(len(given)), given]
    thresholds = np.array([own[given == k].mean() if (given == k).any() else np.inf for k in numbers])
    confident = chances >= thresholds
    suggested = np.where(confident, chances, -1.0).argmax(axis=1)
    suspects = np.flatnonzero(confident.any(axis=1) & (suggested != given))
    margin = own[suspects] - chances[suspects, suggested[suspects]]
    order = np.argsort(margin, kind="stable")
    return LabelErrors(suspects[order], suggested[suspects][order], margin[order], thresholds)
