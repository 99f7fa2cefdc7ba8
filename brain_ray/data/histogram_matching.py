"""Histogram matching: an image takes the grey levels of another one, and so its contrast."""

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.data.intensity import air_below, count_pixels

KNOTS = 65
"""Number of quantiles, from the darkest to the brightest, that are matched; between them, levels are
interpolated."""


def match_histograms(images: NDArray[np.uint8], share: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Gives images of a batch the grey levels of others of it.

    The head of an image has then the quantiles of the other's head, and air stays dark; no pixel moves. That
    is histogram matching as in scikit-image's `match_histograms`, but of heads: there may be more air in one
    image than in the other. What is air is told by `air_below`.

    Args:
        images: (n, height, width, 1).
        share: probability that an image is changed.
        rng: draws which ones are, and which image of the batch each of them follows.

    Returns:
        A new array of the same shape.
    """
    partner, chosen = rng.permutation(len(images)), rng.random(len(images)) < share
    quantiles = [_quantiles(image[..., 0]) for image in images]
    found = images.copy()
    for i in np.flatnonzero(chosen):
        own, other = ([0.0, *quantiles[k]] for k in (i, partner[i]))
        table = np.rint(np.clip(np.interp(np.arange(256), own, other), 0, 255)).astype(np.uint8)
        found[i, ..., 0] = cv2.LUT(images[i, ..., 0], table)
    return found


def _quantiles(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Returns the quantiles of the grey levels of a head, (KNOTS,)."""
    counts = count_pixels(image).astype(np.float64)
    air = air_below(float(counts @ np.arange(256)) / image.size)
    counts[: int(air) + 1] = 0
    if not counts.any():
        return np.linspace(air, 255, KNOTS)
    below = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])  # share of the pixels below each level
    return np.interp(np.linspace(0, 1, KNOTS), below, np.arange(257.0) - 0.5)
