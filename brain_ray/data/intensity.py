"""Intensities: pixels of any number type -> 8-bit grey, by a window between two percentiles.

Percentiles in place of the darkest and the brightest pixel are the usual cure for hot pixels and bright
vessels in MR (Isensee et al. 2021, doi.org/10.1038/s41592-020-01008-z). They are taken of the medians of 3 x
3 pixels, so that single hot pixels do not count at all. Pixels of 8 bits stay as they are.
"""

import math
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.input_spec import Window

EXTREMES: Window = (0.0, 100.0)
"""The window from the darkest to the brightest pixel."""

MAX_SAMPLE = 2**22
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
    """Returns the lowest and the highest value of a window over images.

    These are the two percentiles (nearest rank) of the medians of 3 x 3 pixels; for `EXTREMES`, or if both
    are the same, as in an image that is nearly empty, the lowest and the highest pixel.

    Args:
        images: images of any number type; pixels that are not finite do not count.
        num_pixels: number of their pixels.
        window: the two percentiles.
        max_sample: largest number of pixels that are sorted.

    Returns:
        None if no pixel is finite.
    """
    step = -(-num_pixels // max_sample)
    samples: list[NDArray[Any]] = []
    low, high = math.inf, -math.inf
    for image in images:
        while step > 1 and math.gcd(step, image.shape[1]) > 1:  # else it would always meet the same columns
            step += 1
        for start in range(0, len(image), _ROWS):
            rows = image[start : start + _ROWS]
            finite = np.isfinite(rows)
            if not finite.any():
                continue
            low, high = min(low, float(rows[finite].min())), max(high, float(rows[finite].max()))
            if window != EXTREMES:
                samples.append(_medians(image, start)[finite][::step])
    if low > high:
        return None
    if samples:
        pixels = np.concatenate(samples)
        ranks = [max(0, math.ceil(percent / 100 * pixels.size) - 1) for percent in window]
        pixels.partition(ranks)
        bottom, top = (float(pixels[rank]) for rank in ranks)
        if bottom < top:
            return bottom, top
    return low, high


def scale(image: NDArray[Any], low: float, high: float) -> Grey:
    """Scales (height, width) pixels of any number type linearly from low..high to 0..255.

    What is beyond gets the nearer end, and what is not finite the background, 0. A hot pixel gets the median
    of its 3 x 3 pixels: one that is beyond by more than the window's width, while the median is not.
    """
    half = 1.0 if math.isfinite(high - low) else 0.5
    bottom, span = half * low, half * high - half * low
    factor = 255.0 / span if span > 255 / _LARGEST else 0.0
    grey = np.empty(image.shape, np.uint8)
    for start in range(0, len(image), _ROWS):
        rows = half * image[start : start + _ROWS].astype(np.float64)
        if image.dtype.kind == "f":
            rows[~np.isfinite(rows)] = bottom
        with np.errstate(over="ignore"):
            hot = _is_far(rows, bottom, span)
            if hot.any():
                medians = half * _medians(image, start).astype(np.float64)
                hot &= ~_is_far(medians, bottom, span)
                rows[hot] = medians[hot]
            grey[start : start + _ROWS] = np.rint(np.clip((rows - bottom) * factor, 0, 255))
    return grey


def _is_far(values: NDArray[np.float64], low: float, span: float) -> NDArray[np.bool_]:
    """Returns which values are beyond a window by more than its width."""
    return np.asarray((values > low + 2 * span) | (values < low - span))


def _medians(image: NDArray[Any], start: int) -> NDArray[Any]:
    """Returns the medians of 3 x 3 pixels in rows from a start on; beyond the edges an image is mirrored."""
    end = min(start + _ROWS, len(image))
    above, below = (max(0, start - 1), min(len(image), end + 1))
    rows = image[above:below]
    if rows.dtype not in _MEDIAN_TYPES:
        rows = rows.astype(np.float32)
    if rows.dtype.kind == "f":
        finite = np.isfinite(rows)
        rows = np.where(finite, rows, rows[finite].min() if finite.any() else 0)
    top, bottom = int(above == start), int(below == end)
    padded = cv2.copyMakeBorder(np.ascontiguousarray(rows), top, bottom, 1, 1, cv2.BORDER_REFLECT_101)
    medians: NDArray[Any] = cv2.medianBlur(padded, 3)[1:-1, 1:-1]
    return medians


_MEDIAN_TYPES = (np.dtype(np.uint16), np.dtype(np.int16), np.dtype(np.float32))
"""Number types, in this machine's byte order, of which OpenCV takes medians."""


def air_below(mean: float) -> float:
    """Returns the grey level below which pixels of an image with this mean are taken for air."""
    return max(1.0, mean / 5)


def count_levels(image: Grey) -> int:
    """Returns the number of different grey levels of an image."""
    return int(np.count_nonzero(count_pixels(image)))


def count_pixels(image: Grey, mask: Grey | None = None) -> NDArray[np.float32]:
    """Returns the number of pixels of each grey level, (256,); with a mask, of those where it is not 0."""
    return np.asarray(cv2.calcHist([image], [0], mask, [256], [0, 256]), np.float32).ravel()


def luma(colours: NDArray[Any]) -> NDArray[Any]:
    """Returns the luma (ITU-R BT.601) of (height, width, 3) pixels, red first: float32, or float64 of large
    numbers."""
    kind: Any = np.float32 if colours.dtype.itemsize <= 2 or colours.dtype == np.float32 else np.float64
    grey: NDArray[Any] = colours.astype(kind, copy=False) @ np.array([0.299, 0.587, 0.114], kind)
    return grey
