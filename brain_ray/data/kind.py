"""Kind of a slice of a head: whether it looks like CT and not MR, by the brightness of its bone.

In CT bone is the brightest tissue, mostly as bright as the window allows, and lies next to the brain. In MR
it is dark: what is bright at the rim of a head is fat, less even, with the dark bone between it and the
brain. The thresholds were chosen on half of the slices of a public set that were looked at
(benchmarks/kind.py, which tells what they find in the other half).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.copies.head_view import average

CT = "CT"

EVENNESS = 0.93
"""Least evenness of the ring that looks like bone in CT."""

INSIDE = 0.65
"""Brightness of the brain, as a share of the ring's, from which on an image looks like MR."""

GAP = 0.45
"""Brightness between ring and brain, as a share of the brain's, down to which an image looks like MR."""

SIDE = 128
"""About the side of a head, in pixels, to which an image is shrunk."""

DEPTHS = np.linspace(0.1, 1, 46, dtype=np.float32)
"""Where a ray is sampled, as shares of the way from the middle of the outline to the outline."""

BRAIN = slice(0, 27)
"""Samples of the inside of a head, to 0.62 of the way."""

RIM = 25
"""First sample between brain and outline, at 0.6 of the way."""

RING = 31
"""First sample at which a skull may lie, at 0.72 of the way."""

_ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False, dtype=np.float32)
_RAYS = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


@dataclass(frozen=True)
class Rim:
    """Brightness of a head's rim: of the brightest pixel of each ray in its outer part, the ring."""

    evenness: float
    """Brightness that nine tenths of the ring reach, as a share of that which a tenth reaches."""
    inside: float
    """Median of the inside of the head, as a share of the median of the ring."""
    gap: float
    """Darkest pixel between the inside and the ring, the median over the rays, as a share of the inside."""


def looks_like(rim: Rim) -> str:
    """Returns the kind that an image looks like: "CT", or "" for MR and everything else."""
    return CT if rim.evenness >= EVENNESS and rim.inside < INSIDE and rim.gap > GAP else ""


def measure_rim(image: Grey, outline: NDArray[np.float32]) -> Rim:
    """Measures the rim of a head.

    Args:
        image: (height, width).
        outline: corners of the head's convex outline, (n, 2), as `head_view.find_outline` returns them.
    """
    rays = _unroll(image, outline)
    outer = rays[:, RING:]
    ring = np.sort(outer.max(axis=1).astype(np.float64))
    inside = float(np.median(rays[:, BRAIN]))
    darkest = np.minimum.accumulate(rays[:, RIM:], axis=1)
    gaps = darkest[np.arange(len(rays)), RING - RIM + outer.argmax(axis=1)]
    tenth = len(ring) // 10
    return Rim(
        evenness=float(ring[tenth] / max(1, ring[-1 - tenth])),
        inside=float(inside / max(1, ring[len(ring) // 2])),
        gap=float(np.median(gaps)) / max(1, inside),
    )


def _unroll(image: Grey, outline: NDArray[np.float32]) -> Grey:
    """Returns an image along rays from the middle of an outline to the outline, (72, 46)."""
    moments = cv2.moments(outline)
    middle = np.array([moments["m10"], moments["m01"]], np.float32) / moments["m00"]
    square = min(max(1, round(np.sqrt(moments["m00"]) / SIDE)), *image.shape)
    points = middle + (_reach(outline - middle)[:, None] * DEPTHS)[..., None] * _RAYS[:, None]
    places = ((points + 0.5) / square - 0.5).astype(np.float32)
    small = cv2.GaussianBlur(average(image, square), (3, 3), 0)
    rays = cv2.remap(small, places[..., 0], places[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(rays, np.uint8)


def _reach(corners: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns how far each ray goes from the origin to a convex polygon around it, (72,)."""
    edges = np.roll(corners, -1, axis=0) - corners
    normals = np.stack([edges[:, 1], -edges[:, 0]], axis=1)
    distances = (normals * corners).sum(axis=1)
    towards = _RAYS @ (normals * np.sign(distances.sum())).T
    reach: NDArray[np.float32] = (np.abs(distances) / np.maximum(towards, 1e-6)).min(axis=1)
    return reach
