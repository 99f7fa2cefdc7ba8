"""Alignment of two head views, and the similarity of what both show.

Views are compared by their details: ranks of grey levels, smoothed, without what varies slowly. Neither
the outline nor a bright frame around the head makes two slices alike then.
"""

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.copies.head_view import SIDE
from brain_ray.data.copies.spectra import RADIUS

Floats = NDArray[np.float32]
Affine = NDArray[np.float32]
"""(2, 3) matrix from pixels (x, y) of a first view to pixels of a second one."""

FINE = 0.7
"""Deviation, in pixels, of the Gaussian that smooths ranks."""

SLOW = 13
"""Side, in pixels, of the squares whose means are subtracted."""

EDGE = 3
"""Width, in pixels, of the rim of a head that is left out: in a copy its outline may lie a little apart."""

LEAST_SHARE = 0.5
"""Least share of the smaller head that both views must show."""


def poses(angles: Floats, mirrored: NDArray[np.bool_], changes: Floats) -> NDArray[np.float32]:
    """Returns the transforms, (n, 2, 3), from first views to second ones, for matches of their spectra.

    Args:
        angles: (n,) radians by which second views are turned.
        mirrored: (n,) whether they are then mirrored, top-bottom.
        changes: (n, 6) small changes that make first views like second ones (see `matching.Matches`).
    """
    cosine, sine, flip = np.cos(angles), np.sin(angles), np.where(mirrored, -1, 1)
    turned = np.stack([cosine, -sine, flip * sine, flip * cosine], axis=1).reshape(-1, 2, 2)
    x, y, scale, angle, along, between = changes.T.astype(np.float64)
    stretch = np.stack([1 + scale + along, between - angle, between + angle, 1 + scale - along], axis=1)
    back = np.linalg.inv(stretch.reshape(-1, 2, 2))
    shift = -(turned @ back @ np.stack([x, y], axis=1)[:, :, None])[:, :, 0] * RADIUS
    return about_middle(turned @ back, shift)


def about_middle(linear: NDArray[np.floating], shift: NDArray[np.floating] | float = 0) -> Floats:
    """Returns transforms, (n, 2, 3), that move the middle of a view by `shift`, (n, 2) pixels, from (n, 2, 2)
    matrices."""
    middle = np.full(2, (SIDE - 1) / 2)
    moved = middle - linear @ middle + shift
    return np.concatenate([linear, moved[:, :, None]], axis=2).astype(np.float32)


def details(view: Grey) -> Floats:
    """Returns the details of a view, (64, 64) uint8, and where they count, 1 or 0: (2, 64, 64)."""
    levels, head = np.take(_levels(), view, axis=1)
    slow = cv2.blur(levels, (SLOW, SLOW)) / np.maximum(cv2.blur(head, (SLOW, SLOW)), 1e-3)
    found = np.empty((2, *view.shape), np.float32)
    found[1] = cv2.erode(head, _rim(), borderType=cv2.BORDER_CONSTANT, borderValue=(0,))
    np.multiply(cv2.GaussianBlur(levels, (0, 0), FINE) - slow, found[1], out=found[0])
    return found


@cache
def _levels() -> Floats:
    """Returns what each rank is compared as, and whether it is inside the outline, (2, 256)."""
    ranks = np.arange(256, dtype=np.float32)
    inside = (ranks > 0).astype(np.float32)
    return np.stack([(ranks - 128) * inside, inside])


@cache
def _rim() -> NDArray[np.uint8]:
    return np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)


def correlate(first: Floats, second: Floats) -> Floats:
    """Returns the correlations, -1 to 1, of (n, 2, 64, 64) details where both heads are, in their places.

    It is 0 where the heads overlap too little, or one is uniform.
    """
    one, own, other, its = (part.reshape(len(part), -1) for part in (*_parts(first), *_parts(second)))
    dot = "ij,ij->i"
    power = np.einsum("ij,ij,ij->i", one, one, its) * np.einsum("ij,ij,ij->i", other, other, own)
    least = LEAST_SHARE * np.minimum(own.sum(axis=1), its.sum(axis=1))
    enough = (np.einsum(dot, own, its) >= np.maximum(least, 1)) & (power > 0)
    return np.where(enough, np.einsum(dot, one, other) / np.sqrt(np.maximum(power, 1e-9)), 0).astype(
        np.float32
    )


def _parts(found: Floats) -> tuple[Floats, Floats]:
    return found[:, 0], found[:, 1]


def correlate_moved(first: Floats, second: Floats, transform: Affine) -> float:
    """Returns the correlation of a view's details, (2, 64, 64), with those of a second one that is
    transformed."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    values, its = (cv2.warpAffine(part, transform, (SIDE, SIDE), flags=flags) for part in second)
    both = (first[1] > 0) & (its > 0.99)
    if np.count_nonzero(both) < max(1, LEAST_SHARE * min(first[1].sum(), second[1].sum())):
        return 0.0
    one, other = first[0][both], values[both]
    power = float((one @ one) * (other @ other))
    return float(one @ other) / power**0.5 if power > 0 else 0.0


def shrink(view: Grey, side: int) -> Floats:
    """Returns the ranks of a view, (64, 64) uint8, about 0 and shrunk to (side, side), for `align`."""
    levels = np.take(_levels()[0], view)
    if side == SIDE:
        return levels
    return np.asarray(cv2.resize(levels, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def align(first: Floats, second: Floats, start: Affine, steps: int) -> Affine:
    """Improves a transform from a first to a second view by maximising their correlation.

    The method is ECC (Evangelidis and Psarakis, 2008) with an affine transform.

    Args:
        first: (side, side), from `shrink`.
        second: the same of the second view.
        start: the transform to begin with; it is returned if the method does not converge.
        steps: largest number of steps.
    """
    side = len(first)
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, steps, 1e-4)
    begin = _rescale(start, side / SIDE)
    try:
        found = cv2.findTransformECC(first, second, begin, cv2.MOTION_AFFINE, criteria, _everywhere(side), 1)[
            1
        ]
    except cv2.error:
        return start
    return _rescale(np.asarray(found, np.float32), SIDE / side)


@cache
def _everywhere(side: int) -> NDArray[np.uint8]:
    return np.full((side, side), 255, np.uint8)


def _rescale(transform: Affine, factor: float) -> Affine:
    """Returns a transform between views whose sides are `factor` times as long."""
    moved = np.array([[1, 1, factor], [1, 1, factor]], np.float32) * transform
    moved[:, 2] += 0.5 * (1 - factor) * (transform[:, 0] + transform[:, 1] - 1)
    return np.asarray(moved, np.float32)
