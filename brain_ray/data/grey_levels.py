"""Quantities of an image's grey levels."""

import cv2
import numpy as np

from brain_ray.arrays import Grey

DARK = 26
"""Grey level, a tenth of the range, below which a pixel is dark."""


def measure_grey(image: Grey) -> dict[str, float]:
    """Returns the mean of a (height, width) image's grey levels, their standard deviation, the share of dark
    pixels, and the mean difference of neighbours, by the names of `bundle.reference.QUANTITIES`."""
    mean, spread = cv2.meanStdDev(image)
    height, width = image.shape
    steps = cv2.norm(image[1:], image[:-1], cv2.NORM_L1) + cv2.norm(image[:, 1:], image[:, :-1], cv2.NORM_L1)
    return {
        "grey_mean": float(mean[0, 0]),
        "grey_spread": float(spread[0, 0]),
        "grey_dark": int(np.count_nonzero(image < DARK)) / image.size,
        "grey_detail": steps / max(1, (height - 1) * width + height * (width - 1)),
    }
