"""Shapes: outlines, masks and smooth noise on the square on which a head is drawn. Pure functions."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Image = NDArray[np.uint8]
Points = NDArray[np.float64]

SIDE = 192
"""Side, in pixels, of the square on which a head is drawn before it is posed and scanned."""

ANGLES = np.linspace(0, 2 * np.pi, 72, endpoint=False)
"""Directions of the points of an outline, in radians, (72,)."""


@dataclass(frozen=True)
class Level:
    """Level of a slice in its head, and what changes with it.

    Random values of two whole heights are blended, so that neighbouring levels are alike.
    """

    height: float = 0.0
    """Height above the middle slice. Levels that are 2 or more apart share none of these values."""
    seed: tuple[int, ...] = ()
    """Seed of the values of all heights but 0."""

    def noise(self, rng: np.random.Generator, cells: int) -> Floats:
        """Returns smooth noise of about unit variance, (SIDE, SIDE), from cells x cells random values.

        `rng` gives those of height 0, and is used equally at each height.
        """
        own = rng.standard_normal((cells, cells), dtype=np.float32)
        coarse = self._blend(own, lambda other: other.standard_normal(own.shape, np.float32))
        return upscale(coarse, SIDE, SIDE)

    def changes(self, *shape: int) -> Floats:
        """Returns values of -1.4..1.4 of this shape by which levels differ from the middle slice; there they
        are 0."""
        return self._blend(np.zeros(shape, np.float32), lambda other: floats(other.uniform(-1, 1, shape)))

    def _blend(self, own: Floats, draw: Callable[[np.random.Generator], Floats]) -> Floats:
        low = math.floor(self.height)
        share = (self.height - low) * math.pi / 2

        def values(layer: int) -> Floats:
            return draw(np.random.default_rng([*self.seed, own.size, layer % 2**32])) if layer else own

        return math.cos(share) * values(low) + math.sin(share) * values(low + 1) if share else values(low)


def blob(
    centre: Sequence[float] | Points,
    radii: Sequence[float] | Points,
    uneven: float = 0.0,
    rng: np.random.Generator | None = None,
    turn: float = 0.0,
) -> Points:
    """Returns an ellipse's outline, (72, 2) x, y from the head's centre, made uneven by five harmonics.

    `turn`, in radians, is added to the harmonics' phases.
    """
    radius = np.ones(len(ANGLES))
    if rng is not None:
        for k, phase in enumerate(rng.uniform(0, 2 * np.pi, 5), start=2):
            radius += uneven * rng.uniform(0.3, 1) / np.sqrt(k) * np.cos(k * ANGLES + phase + turn)
    unit_circle = np.stack([np.cos(ANGLES), np.sin(ANGLES)], axis=1)
    return np.asarray(centre + unit_circle * radius[:, None] * np.asarray(radii), np.float64)


def along(outline: Points, angles: float | NDArray[np.float64]) -> Points:
    """Returns the points of an outline at some angles, (..., 2)."""
    parts = [np.interp(angles, ANGLES, outline[:, k], period=2 * np.pi) for k in (0, 1)]
    return np.asarray(np.stack(parts, axis=-1), np.float64)


def fill(canvas: Image, points: Points, value: float) -> None:
    """Fills an outline, in place, with a brightness of 0..1."""
    cv2.fillPoly(canvas, [_fixed(points)], round(value * 255), cv2.LINE_AA, 4)


def stroke(canvas: Image, points: Points, width: int, value: float) -> None:
    """Draws a line of `width` pixels, in place, with a brightness of 0..1."""
    cv2.polylines(canvas, [_fixed(points)], False, round(value * 255), width, cv2.LINE_AA, 4)


def _fixed(points: Points) -> NDArray[np.int32]:
    """Converts points from the head's centre to pixels of the canvas, in OpenCV's sixteenths."""
    return np.rint((points + SIDE / 2) * 16).astype(np.int32)


def unit(canvas: Image) -> Floats:
    """Scales 0..255 to 0..1."""
    return canvas * np.float32(1 / 255)


def mask(points: Points, blur: float = 0.0) -> Floats:
    """Returns the share of each pixel within an outline, (SIDE, SIDE), 0..1; `blur` is a Gaussian's sigma in
    pixels."""
    canvas = np.zeros((SIDE, SIDE), np.uint8)
    fill(canvas, points, 1.0)
    return unit(np.asarray(cv2.GaussianBlur(canvas, (0, 0), blur), np.uint8) if blur else canvas)


def blend(picture: Floats, share: Floats, value: float | Floats) -> None:
    """Blends `value` into a picture, in place, with a share for each pixel."""
    picture += (value - picture) * share


def upscale(coarse: Floats, rows: int, columns: int) -> Floats:
    """Returns a coarse grid as a smooth (rows, columns)."""
    return floats(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC))


def floats(array: object) -> Floats:
    """Returns an array of OpenCV's as float32."""
    return np.asarray(array, np.float32)
