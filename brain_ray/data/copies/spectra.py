"""Spectra of head views along circles, and embeddings of them.

A view is averaged over rings about its centre, and each ring is expanded into a Fourier series in the angle.
Turning the view by phi multiplies the coefficient of order m by exp(-i m phi), and mirroring it conjugates
all of them. The embedding changes with neither, so that products of embeddings compare views in every
position at once: it holds, for each order, the real parts of the products of the rings' coefficients.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies.head_view import SIDE

Floats = NDArray[np.float32]
Spectra = NDArray[np.complex64]
"""(n, RINGS, ORDERS + 1) coefficients of n views, scaled to unit norm; of a uniform view, zeros."""

RINGS = 12
"""Number of rings about the centre of a view."""

ORDERS = 13
"""Highest order of the Fourier series along a ring."""

RADIUS = 0.48 * SIDE
"""Radius of the outermost ring, in pixels of a view."""

EMBEDDED_RINGS = 4
EMBEDDED_ORDERS = 10
EMBEDDING_SIZE = EMBEDDED_RINGS + EMBEDDED_ORDERS * EMBEDDED_RINGS * (EMBEDDED_RINGS + 1) // 2

PACKED_SIZE = 2 * RINGS * (ORDERS + 1)

PACKED_SCALE = 250
"""Factor from a coefficient to its packed integer, -127..127; a larger one is cut off."""

BATCH = 512
"""Number of views that are transformed at a time, to bound memory."""


def transform(views: NDArray[np.uint8]) -> Spectra:
    """Returns the spectra of (n, 64, 64) head views."""
    levels = (np.arange(256, dtype=np.float32) - 128) / 74  # ranks from 1 to 255 have the deviation 1
    levels[0] = 0
    parts = [np.empty((0, RINGS, ORDERS + 1), np.complex64)]
    for k in range(0, len(views), BATCH):
        flat = np.take(levels, views[k : k + BATCH].reshape(-1, SIDE * SIDE))
        real, imaginary = np.split((flat @ _basis()).reshape(-1, RINGS, 2 * (ORDERS + 1)), 2, axis=2)
        roots = ring_radii()[1]
        real[:, :, 0] -= (real[:, :, 0] @ roots)[:, None] * roots / np.square(roots).sum()  # the mean
        parts.append(real + np.complex64(1j) * imaginary)
    return scale(np.concatenate(parts))


def scale(spectra: Spectra) -> Spectra:
    """Scales (n, rings, orders) spectra to unit norm, and those of less than a thousandth to zeros."""
    norms = np.linalg.norm(as_real(spectra), axis=1)
    factors = np.where(norms > 1e-3, 1 / np.maximum(norms, 1e-3), 0).astype(np.float32)
    return np.asarray(spectra * factors[:, None, None], np.complex64)


def as_real(spectra: Spectra) -> Floats:
    """Returns (n, d) real numbers whose products are those of the views that (n, rings, orders) spectra are
    of."""
    weights = np.where(np.arange(spectra.shape[2]) == 0, 1, np.sqrt(2)).astype(np.float32)
    weighted = (spectra * weights).reshape(len(spectra), spectra.shape[1] * spectra.shape[2])
    return np.concatenate([weighted.real, weighted.imag], axis=1)


def pack(spectra: Spectra) -> NDArray[np.int8]:
    """Returns spectra as (n, 336) small integers."""
    parts = np.stack([spectra.real, spectra.imag], axis=1).reshape(len(spectra), PACKED_SIZE)
    return np.clip(np.rint(parts * PACKED_SCALE), -127, 127).astype(np.int8)


def unpack(packed: NDArray[np.int8]) -> Spectra:
    """Returns the spectra of which `pack` made (n, 336) integers."""
    parts = packed.reshape(len(packed), 2, RINGS, ORDERS + 1).astype(np.float32) / PACKED_SCALE
    return scale(parts[:, 0] + np.complex64(1j) * parts[:, 1])


def embed(spectra: Spectra) -> Floats:
    """Returns embeddings, (n, 104), of unit norm or zeros.

    Rings and orders are fewer than in the spectra, so that small differences of the frames matter less.
    """
    rings = spectra[:, :, : EMBEDDED_ORDERS + 1]
    grouped = len(rings), EMBEDDED_RINGS, RINGS // EMBEDDED_RINGS, EMBEDDED_ORDERS + 1
    rings = rings.reshape(grouped).sum(axis=2)
    first, second = np.triu_indices(EMBEDDED_RINGS)
    products = (rings[:, first, 1:] * rings[:, second, 1:].conj()).real
    products *= np.where(first == second, 1, np.sqrt(2)).astype(np.float32)[:, None]
    # An order's products have the norm of its energy; by the root of it, orders count as in the spectra.
    norms = np.linalg.norm(products, axis=1, keepdims=True)
    products *= np.sqrt(2 / np.maximum(norms, 1e-9))
    embedded = np.concatenate(
        [rings[:, :, 0].real, products.reshape(len(rings), EMBEDDING_SIZE - EMBEDDED_RINGS)], axis=1
    )
    length = np.linalg.norm(embedded, axis=1, keepdims=True)
    return np.where(length > 1e-3, embedded / np.maximum(length, 1e-3), 0).astype(np.float32)


@cache
def ring_radii() -> tuple[Floats, Floats]:
    """Returns the middle radius of each ring, in units of the outermost, and the square root of its area, up
    to a factor."""
    radii = np.asarray((np.arange(RINGS) + 0.5) / RINGS, np.float32)
    return radii, np.sqrt(radii)


@cache
def _basis() -> Floats:
    """Returns the (4096, 336) matrix from a view's pixels to the Fourier series of its rings, times the roots
    of their areas: for each ring, real parts, then imaginary parts.

    Rings overlap: each has a triangular profile, twice as wide as the step between two.
    """
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    x, y = np.meshgrid(axis, axis)
    radius, angle = np.hypot(x, y).ravel(), np.arctan2(y, x).ravel()
    middles, roots = ring_radii()
    profile = np.maximum(0, 1 - np.abs(radius[:, None] / RADIUS - middles) * RINGS)
    profile *= roots / profile.sum(axis=0)
    waves = angle[:, None] * np.arange(ORDERS + 1)
    waves = np.concatenate([np.cos(waves), -np.sin(waves)], axis=1)
    return np.asarray((profile[:, :, None] * waves[:, None]).reshape(SIDE * SIDE, -1), np.float32)
