"""Intensities: pixels of any number type -> 8-bit grey, by a window between two percentiles.

Percentiles in place of the darkest and the brightest pixel are the usual cure for hot pixels and bright
vessels in MR (Isensee et al. 2021, doi.org/10.1038/s41592-020-01008-z). Pixels of 8 bits stay as they are.
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.input_spec import Window

MAX_SAMPLE = 2**24
"""Largest number of pixels from which percentiles are taken; of more, every n-th is."""

_ROWS = 64
"""Rows that are converted at a time: all at once would take eight times the image's memory."""

_LARGEST = float(np.finfo(np.float64).max)

FEW_LEVELS = 64
"""Number of grey levels below which an image is a drawing or mask, or was darkened by a few bright pixels."""


def to_grey(image: NDArray[Any], window: Window) -> Grey | None:
    """Returns an image, (height, width) of any number type, as 8-bit grey by its own window.

    Returns None if none of its pixels is finite.
    """
    if image.dtype == np.uint8:
        return image
    found = find_range([image], image.size, window)
    return None if found is None else scale(image, *found)


def find_range(
    images: Iterable[NDArray[Any]], num_pixels: int, window: Window, max_sample: int = MAX_SAMPLE
) -> tuple[float, float] | None:
    """Returns the lowest and the highest value of a window over images: those at its two percentiles.

    A percentile is the value of a pixel (nearest rank), 0 and 100 are the extremes. If both are the same, as
    in an image that is nearly empty, the extremes are returned.

    Args:
        images: images of any number type; pixels that are not finite do not count.
        num_pixels: number of their pixels.
        window: the two percentiles.
        max_sample: largest number of pixels that are sorted.

    Returns:
        None if no pixel is finite.
    """
    step = -(-num_pixels // max_sample)
    samples, low, high = [], math.inf, -math.inf
    for image in images:
        while step > 1 and math.gcd(step, image.shape[1]) > 1:  # else it would always meet the same columns
            step += 1
        finite = image[np.isfinite(image)] if image.dtype.kind == "f" else image.ravel()
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
            samples.append(finite[::step])
    if not samples:
        return None
    pixels = np.concatenate(samples)
    ranks = [max(0, math.ceil(percent / 100 * pixels.size) - 1) for percent in window]
    pixels.partition(ranks)
    bottom = low if window[0] == 0 else float(pixels[ranks[0]])
    top = high if window[1] == 100 else float(pixels[ranks[1]])
    return (bottom, top) if bottom < top else (low, high)


def scale(image: NDArray[Any], low: float, high: float) -> Grey:
    """Scales (height, width) pixels of any number type linearly from low..high to 0..255; what is beyond gets
    the nearer end, and what is not finite the background, 0."""
    half = 1.0 if math.isfinite(high - low) else 0.5
    low, span = half * low, half * high - half * low
    factor = 255.0 / span if span > 255 / _LARGEST else 0.0
    grey = np.empty(image.shape, np.uint8)
    for start in range(0, len(image), _ROWS):
        rows = half * image[start : start + _ROWS].astype(np.float64)
        if image.dtype.kind == "f":
            rows[~np.isfinite(rows)] = low
        with np.errstate(over="ignore"):
            grey[start : start + _ROWS] = np.rint(np.clip((rows - low) * factor, 0, 255))
    return grey


def count_levels(image: Grey) -> int:
    """Returns the number of different grey levels of an image."""
    return int(np.count_nonzero(np.bincount(image.ravel(), minlength=256)))


def luma(colours: NDArray[Any]) -> NDArray[Any]:
    """Returns the luma (ITU-R BT.601) of (height, width, 3) pixels, red first: float32, or float64 of large
    numbers."""
    kind: Any = np.float32 if colours.dtype.itemsize <= 2 or colours.dtype == np.float32 else np.float64
    grey: NDArray[Any] = colours.astype(kind, copy=False) @ np.array([0.299, 0.587, 0.114], kind)
    return grey
