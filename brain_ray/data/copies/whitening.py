"""Whitening of embeddings, so that products tell images apart that are all alike in the same ways.

Heads have most of an embedding in common, and those of one scanner and plane even more. The mean over a data
set's images is subtracted, and what varies much among them is scaled down, by the root of its standard
deviation: products of different images fall by more than those of changed copies.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies.spectra import EMBEDDING_SIZE

Floats = NDArray[np.float32]

LEAST_IMAGES = 1000
"""Number of images below which embeddings stay as they are: their spread would not be known."""

PLAIN_FLOOR, WHITENED_FLOOR = 0.74, 0.5
"""Least products of two embeddings, as they are and whitened, whose spectra are compared."""

FLAT = 0.15
"""Variance, as a share of the mean variance, that is added in every direction."""


@dataclass(frozen=True)
class Whitening:
    """An affine map of embeddings, and the floor of the products of mapped ones."""

    mean: Floats
    """(104,)"""
    matrix: Floats
    """(104, 104)"""
    floor: float

    def apply(self, embeddings: Floats) -> Floats:
        """Returns (n, 2, 104) embeddings mapped and scaled to unit norm; zeros stay zeros."""
        mapped = (embeddings - self.mean) @ self.matrix
        mapped /= np.maximum(np.linalg.norm(mapped, axis=2, keepdims=True), 1e-6)
        return np.asarray(mapped * embeddings.any(axis=2, keepdims=True), np.float32)


@dataclass(frozen=True)
class Moments:
    """Sums over embeddings that are not zeros: their number, themselves, and their outer products."""

    count: int
    total: NDArray[np.float64]
    products: NDArray[np.float64]


def moments(embeddings: Floats) -> Moments:
    """Returns the moments of (n, 2, 104) embeddings."""
    flat = embeddings[embeddings.any(axis=2)].astype(np.float64)
    return Moments(len(flat), flat.sum(axis=0), flat.T @ flat)


def whitening(parts: Sequence[Moments]) -> Whitening:
    """Returns the whitening for the embeddings that moments were taken of."""
    count = sum(part.count for part in parts)
    if count < 2 * LEAST_IMAGES:
        return Whitening(
            np.zeros(EMBEDDING_SIZE, np.float32), np.eye(EMBEDDING_SIZE, dtype=np.float32), PLAIN_FLOOR
        )
    mean = np.sum([part.total for part in parts], axis=0) / count
    spread = np.sum([part.products for part in parts], axis=0) / count - np.outer(mean, mean)
    variances, directions = np.linalg.eigh(spread)
    scales = (np.maximum(variances, 0) + FLAT * variances.mean()) ** -0.25
    return Whitening(mean.astype(np.float32), (directions * scales).astype(np.float32), WHITENED_FLOOR)
