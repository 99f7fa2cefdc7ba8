"""Localisation: whether a heat map points at an outlined tumour, and two maps that know no network."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]
Mask = NDArray[np.bool_]
Region = tuple[slice, slice]
"""Rows and columns of an image."""

TOLERANCE = 15 / 224
"""Largest distance from the outline that still counts as near, as a share of the image's shorter side.

Zhang et al. allow 15 pixels; here these are pixels of an image with a shorter side of 224. In a slice of 512
pixels they are 34: small tumours are hardly larger.
"""

THRESHOLDS = np.arange(1, 20) / 20
"""Shares of a map's maximum at which it is cut for the IoU: 0.05, 0.10, ... 0.95."""

CENTRE_SIGMA = 0.25
"""Standard deviation of `centre_map`, as a share of the head's height and width."""

SMOOTHING = 0.03
"""Standard deviation of the blur of `brightness_map`, as a share of the head's longer side."""


@dataclass(frozen=True)
class Localisation:
    """How well one map of an image points at its tumour; each is 0..1, and 0 for a map that is 0
    everywhere."""

    pointing: float
    """Pointing game without tolerance: whether the map's maximum lies in the outline. Of several equal
    maxima, the share that does."""
    near: float
    """Pointing game of Zhang et al. (2018, doi.org/10.1007/s11263-017-1059-x): whether it lies in the outline
    or within `TOLERANCE` of it."""
    energy: float
    """Energy-based pointing game of Wang et al. (2020, arxiv.org/abs/1910.01279): share of the map's sum that
    lies in the outline."""
    iou: float
    """Best intersection over union of the outline and the map cut at one of `THRESHOLDS`. The threshold is
    chosen for each image with its outline at hand, so that this is an upper bound."""


MEASURES = ("pointing", "near", "energy", "iou")
"""Names of the fields of `Localisation`."""


def localise(heat: Map, mask: Mask) -> Localisation:
    """Compares a heat map with an outline.

    Args:
        heat: (height, width), 0 or more, in the pixels of the image.
        mask: (height, width), True within the outline.

    Raises:
        ValueError: the shapes differ, the mask is empty, or the map has negative or undefined values.
    """
    if heat.shape != mask.shape:
        raise ValueError(f"the heat map has shape {heat.shape}, the mask {mask.shape}: expected the same")
    if not mask.any():
        raise ValueError("the mask is empty: expected an outline")
    highest = float(heat.max())
    if not (float(heat.min()) >= 0 and np.isfinite(highest)):
        raise ValueError("the heat map has negative or undefined values: expected 0 or more")
    if highest == 0:
        return Localisation(0.0, 0.0, 0.0, 0.0)
    peaks = heat == highest
    # Exact to a few hundredths of a pixel, which is far less than what an outline is.
    distance = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return Localisation(
        pointing=float(mask[peaks].mean()),
        near=float((distance[peaks] <= TOLERANCE * min(mask.shape)).mean()),
        energy=float(heat[mask].sum(dtype=np.float64) / heat.sum(dtype=np.float64)),
        iou=_best_iou(heat / highest, mask),
    )


def _best_iou(heat: Map, mask: Mask) -> float:
    """Returns the best IoU of a map of 0..1 over the thresholds."""
    levels = np.digitize(heat, THRESHOLDS)  # number of thresholds that a pixel reaches
    bins = len(THRESHOLDS) + 1
    inside = np.bincount(levels[mask], minlength=bins)[::-1].cumsum()[::-1]
    outside = np.bincount(levels[~mask], minlength=bins)[::-1].cumsum()[::-1]
    return float((inside[1:] / (inside[0] + outside[1:])).max())


def centre_map(shape: tuple[int, ...], head: Region) -> NDArray[np.float64]:
    """Returns a Gaussian about the centre of the head's box, 0 outside the box: (height, width).

    It is a baseline: what a map reaches that knows where the head is, and nothing else.
    """
    parts = []
    for side in head:
        length = side.stop - side.start
        offset = np.arange(length) - (length - 1) / 2
        parts.append(np.exp(-0.5 * (offset / (CENTRE_SIGMA * length)) ** 2))
    found = np.zeros(shape[:2])
    found[head] = parts[0][:, np.newaxis] * parts[1]
    return found


def brightness_map(image: NDArray[np.uint8], head: Region) -> NDArray[np.float64]:
    """Returns the brightness of a grey image in the head's box, smoothed; 0 outside the box: (height, width).

    It is a baseline: what a map reaches that points at the brightest region, as tumours with contrast often
    are.
    """
    inner = image[head].astype(np.float64)
    found = np.zeros(image.shape)
    found[head] = cv2.GaussianBlur(inner, (0, 0), max(0.5, SMOOTHING * max(inner.shape)))
    return found
