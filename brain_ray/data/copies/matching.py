"""Matches of spectra: the pose in which two views resemble each other best, and how much.

The correlation of two views is known for all angles at once, by one short Fourier transform. Small shifts,
turns and changes of scale and aspect add, to first order, combinations of a view's derivatives to it: what of
the difference of two views lies in their span is no difference of heads (tangent distance: Simard, LeCun and
Denker, 1993).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies.spectra import ORDERS, RINGS, Spectra, as_real, ring_radii, scale

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

COMPARED_RINGS = 6
"""Number of rings, each of two neighbours, of the spectra that are compared."""

ANGLES = 32
"""Number of angles for which two views are compared; the best one is refined by a parabola."""

CHANGES = 6
"""Number of small changes: shifts along x and y, scale, angle, and two changes of aspect, along the axes and
between them."""

LARGEST = 0.3
"""Largest change that is told: the first order says nothing of larger ones."""


@dataclass(frozen=True)
class Tangents:
    """Coarse spectra, and what small changes add to them."""

    spectra: Spectra
    """(n, 6, 13), from `coarsen`."""
    basis: Floats
    """(n, 6, 156): orthonormal combinations of the derivatives by the `CHANGES`, as real numbers."""
    combinations: Floats
    """(n, 6, 6): the factors of the derivatives in each of them."""


@dataclass(frozen=True)
class Matches:
    """Poses in which second views resemble first ones best."""

    changed: Floats
    """(n,): correlation in that pose after small changes, to first order; 0 if it is too low before them."""
    changes: Floats
    """(n, 6): those `CHANGES`, to first order: shifts in units of the outer ring's radius, and factors."""
    angle: Floats
    """(n,): angle in radians by which the second view is turned against the first."""
    mirrored: NDArray[np.bool_]
    """(n,): whether the turned view is then mirrored, top-bottom."""


def coarsen(spectra: Spectra) -> Spectra:
    """Returns spectra, (n, 12, 14), as `match` compares them: (n, 6, 13), of unit norm."""
    return scale(_join(spectra[:, :, :ORDERS]))


def prepare(spectra: Spectra) -> Tangents:
    """Returns the tangents of spectra, (n, 12, 14)."""
    joined = _join(spectra[:, :, :ORDERS])
    own = scale(joined)
    real = as_real(own)
    changes = (_as_parts(spectra) @ _operator()).reshape(len(own), CHANGES, real.shape[1])
    # `own` is scaled, and so are its derivatives.
    changes /= np.maximum(np.linalg.norm(as_real(joined), axis=1), 1e-3)[:, None, None]
    # What a derivative has in common with the view itself is a change of contrast.
    changes -= (changes @ real[:, :, None]) * real[:, None]
    products = (changes @ np.swapaxes(changes, 1, 2)).astype(np.float64)
    products += np.eye(CHANGES) * (1e-9 + 1e-6 * np.trace(products, axis1=1, axis2=2)[:, None, None])
    inverse = np.linalg.inv(np.linalg.cholesky(products)).astype(np.float32)
    return Tangents(own, inverse @ changes, inverse)


def match(first: Tangents, second: Spectra, a: Ints, b: Ints, least: float) -> Matches:
    """Compares the views at positions `a` of the first with those at positions `b` of the second.

    Args:
        first: from `prepare`.
        second: from `coarsen`.
        a: positions in `first`, (n,).
        b: positions in `second`, (n,).
        least: correlation from which on small changes are tried.
    """
    one, other = first.spectra[a], second[b]
    series = np.stack([(one.conj() * view).sum(axis=1) for view in (other, other.conj())], axis=1)
    curves = np.fft.irfft(series, ANGLES, axis=2).reshape(len(a), 2 * ANGLES) * ANGLES
    mirrored, at = np.divmod(curves.argmax(axis=1), ANGLES)
    top, before, after = (
        curves[np.arange(len(a)), mirrored * ANGLES + (at + side) % ANGLES] for side in (0, -1, 1)
    )
    # The vertex of the parabola through the best angle and its neighbours.
    bend = np.minimum(before - 2 * top + after, -1e-9)
    angle = ((at + 0.5 * (before - after) / bend) * (2 * np.pi / ANGLES)).astype(np.float32)
    changed, changes = np.zeros(len(a), np.float32), np.zeros((len(a), CHANGES), np.float32)
    chosen = np.flatnonzero(top >= least)
    turned = np.where(mirrored[chosen, None, None] == 1, other[chosen].conj(), other[chosen])
    waves = np.exp(1j * np.arange(ORDERS) * angle[chosen, None]).astype(np.complex64)
    real = as_real(turned * waves[:, None])
    along = np.einsum("nd,nd->n", as_real(one[chosen]), real)
    beside = (first.basis[a[chosen]] @ real[:, :, None])[:, :, 0]
    changed[chosen] = np.hypot(along, np.linalg.norm(beside, axis=1))
    factors = np.einsum("nk,nkj->nj", beside, first.combinations[a[chosen]]) / np.maximum(along, 0.3)[:, None]
    changes[chosen] = factors.clip(-LARGEST, LARGEST)
    return Matches(changed, changes, angle, mirrored == 1)


def _join(spectra: Spectra) -> Spectra:
    """Joins each two neighbouring rings of (n, 12, orders)."""
    joined = spectra.reshape(len(spectra), COMPARED_RINGS, RINGS // COMPARED_RINGS, spectra.shape[2])
    return np.asarray(joined.sum(axis=2), np.complex64)


def _as_parts(spectra: Spectra) -> Floats:
    """Returns the real and the imaginary parts of (n, 12, 14) spectra, (n, 336)."""
    flat = spectra.reshape(len(spectra), RINGS * (ORDERS + 1))
    return np.concatenate([flat.real, flat.imag], axis=1)


@cache
def _operator() -> Floats:
    """Returns the matrix, (336, 936), from a spectrum's parts to its joined derivatives, as real numbers.

    Derivatives are linear in the parts: its rows are those of each part alone.
    """
    units = np.eye(RINGS * (ORDERS + 1), dtype=np.complex64).reshape(-1, RINGS, ORDERS + 1)
    parts = np.concatenate([units, np.complex64(1j) * units])
    return as_real(_join(_derivatives(parts)[:, :, :ORDERS])).reshape(len(parts), -1)


def _derivatives(spectra: Spectra) -> Spectra:
    """Returns the derivatives of views by the `CHANGES`, (n * 6, 12, 14), those of a view side by side.

    They are combinations of the derivatives along and across a ring; a product with the cosine or sine of the
    angle moves coefficients to the orders beside theirs. The highest order lacks its upper neighbour.
    """
    radii, roots = (column[:, None] for column in ring_radii())
    means = spectra / roots
    outwards = np.asarray(np.gradient(means, 1 / RINGS, axis=1), np.complex64)
    across = np.asarray(1j * np.arange(ORDERS + 1) * means / radii, np.complex64)

    def lower(series: Spectra) -> Spectra:
        return np.concatenate([series[:, :, 1:2].conj(), series[:, :, :-1]], axis=2)

    def upper(series: Spectra) -> Spectra:
        return np.concatenate([series[:, :, 1:], np.zeros_like(series[:, :, :1])], axis=2)

    def cosine(series: Spectra) -> Spectra:
        return np.asarray((lower(series) + upper(series)) * np.float32(0.5))

    def sine(series: Spectra) -> Spectra:
        return np.asarray((lower(series) - upper(series)) * np.complex64(-0.5j))

    by_x, by_y = cosine(outwards) - sine(across), sine(outwards) + cosine(across)
    stretched = radii * (cosine(by_x) - sine(by_y))
    skewed = radii * (sine(by_x) + cosine(by_y))
    changes = np.stack([by_x, by_y, radii * outwards, radii * across, stretched, skewed], axis=1) * roots
    return np.asarray(changes.reshape(CHANGES * len(spectra), RINGS, ORDERS + 1), np.complex64)
