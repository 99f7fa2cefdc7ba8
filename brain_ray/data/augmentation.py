"""Random augmentation of one image's pixels. Pure functions of the image, the ranges and a generator."""

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.artefacts.table import SEVERITIES, corrupt
from brain_ray.data.decoding import as_grey
from brain_ray.data.intensity import air_below

if TYPE_CHECKING:  # its import takes longer than all others of decoding
    from brain_ray.config import AugmentConfig


def augment(image: Grey, ranges: "AugmentConfig", rng: np.random.Generator) -> Grey:
    """Rotates, shifts, scales and flips an image, changes its brightness, contrast and grey levels, adds
    noise and an artefact; the shape stays.

    The draws of one range of `ranges` do not depend on the others. Pixels from outside are black, or repeat
    the edge, as in Keras' ImageDataGenerator (`keep_black`). Noise comes after them: resampling would smooth
    it. Artefacts come last; they and the maps of grey levels have generators of their own.
    """
    turn, right, down, zoom, bright, contrast = rng.uniform(-1.0, 1.0, size=6)
    flip = rng.random() < ranges.flip
    height, width = image.shape
    if ranges.rotation or ranges.shift or ranges.zoom:
        centre = ((width - 1) / 2, (height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(centre, turn * ranges.rotation, 1 + zoom * ranges.zoom)
        matrix[:, 2] += (right * ranges.shift * width, down * ranges.shift * height)
        border = cv2.BORDER_CONSTANT if ranges.keep_black else cv2.BORDER_REPLICATE
        image = as_grey(
            cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=border)
        )
    if flip:
        image = as_grey(cv2.flip(image, 1))
    if ranges.brightness or ranges.contrast:
        # A table of 256 values is exact, and faster than arithmetic on every pixel.
        levels = _black_stays_black if ranges.keep_black else _black_turns_grey
        table = levels(_mean(image), bright * ranges.brightness, 1 + contrast * ranges.contrast)
        image = as_grey(cv2.LUT(image, table))
    of_artefacts, of_levels = (
        rng.spawn(2) if ranges.artefact_share or ranges.curve or ranges.invert else (rng, rng)
    )
    if ranges.curve or ranges.invert:
        image = as_grey(cv2.LUT(image, _mapped_levels(_mean(image), ranges, of_levels)))
    if ranges.noise:
        deviation = rng.random() * ranges.noise * 255
        # OpenCV draws four times as fast as NumPy; its generator belongs to this thread.
        cv2.setRNGSeed(int(rng.integers(2**31)))
        noise = np.empty(image.shape, np.float32)
        cv2.randn(noise, np.zeros(1), np.full(1, deviation))
        image = as_grey(cv2.add(image, noise, dtype=cv2.CV_8U))
    if ranges.artefact_share and of_artefacts.random() < ranges.artefact_share:
        name = ranges.artefacts[of_artefacts.integers(len(ranges.artefacts))]
        severity = SEVERITIES[of_artefacts.integers(len(SEVERITIES))]
        image = corrupt(image, name, severity, of_artefacts)
    return np.ascontiguousarray(image)


def _mean(image: Grey) -> float:
    return float(cv2.sumElems(image)[0]) / image.size


def _black_stays_black(mean: float, brightness: float, contrast: float) -> Grey:
    """Returns the new grey level of each, (256,): both changes are as large as in `_black_turns_grey`, the
    brightness at 127.5, the contrast at the mean."""
    mean = max(mean, 1.0)
    levels = (1 + 2 * brightness) * mean * (np.arange(256) / mean) ** contrast
    return np.minimum(np.maximum(np.rint(levels), 0), 255).astype(np.uint8)  # np.clip takes longer


def _black_turns_grey(mean: float, brightness: float, contrast: float) -> Grey:
    """Returns the new grey level of each, (256,), as earlier versions changed them."""
    levels = np.arange(256) * contrast + (mean * (1 - contrast) + brightness * 255)
    return np.asarray(np.clip(levels, 0, 255), np.uint8)


def _mapped_levels(mean: float, ranges: "AugmentConfig", rng: np.random.Generator) -> Grey:
    """Returns the new grey level of each, (256,): through a random curve, inverted, both or neither."""
    levels = np.arange(256, dtype=np.float64)
    inverts, curves = rng.random(2) < (ranges.invert, ranges.curve)
    if inverts:
        air = air_below(mean)
        levels = np.interp(levels, (0.0, air, 255.0), (0.0, 255.0, air))
    if curves:
        levels = np.interp(levels, *_bezier(rng))
    return np.asarray(np.rint(levels), np.uint8)


def _bezier(rng: np.random.Generator, points: int = 64) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns x and y, (points,) each, of a random cubic Bezier curve from (0, 0) to (255, 255).

    Neither falls, since both inner control points are drawn from the square between the ends.
    """
    inner = rng.random((2, 2))
    t = np.linspace(0.0, 1.0, points)[:, np.newaxis]
    curve = 3 * (1 - t) ** 2 * t * inner[0] + 3 * (1 - t) * t**2 * inner[1] + t**3
    return 255 * curve[:, 0], 255 * curve[:, 1]
