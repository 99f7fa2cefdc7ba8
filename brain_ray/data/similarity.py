"""Similarity of whole images under four symmetries, and a bound that makes all pairs affordable.

Two images are copies when their 96x96 thumbnails (zero mean, unit norm, so that brightness and contrast do
not matter) correlate by a threshold or more, as they are, mirrored, flipped or turned by 180 degrees. Most
copies that were shifted, turned otherwise, zoomed or cropped are missed (`benchmarks/planted.py`).

All pairs are compared, exactly, without computing all correlations. A thumbnail z is split into its 16x16
block means Pz, an orthogonal projection, and a rest of norm q. Then by Cauchy and Schwarz

    <a, b>  <=  <Pa, Pb> + q_a q_b

for each of the four positions, so that a pair whose right side stays below the threshold is no copy; only
the few others are compared in full. And since the four positions only change the signs of the parts of Pz
that are odd left-right or top-bottom, four products of quarter size give the right side for all four
positions at once; a looser bound of two products spares most of them.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.data.transforms import THUMBNAIL_SIDE

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

TRANSFORMS = ("identity", "mirrored", "flipped", "turned")
"""Transforms from the second image of a pair to the first: none, left-right, top-bottom, by 180 degrees."""

NEAR_MISS = 0.97
"""Least similarity of near misses, which are counted: up to a threshold above it, most pairs are one slice
with other contrasts."""

MARGIN = 0.02
"""Least width of the range of near misses below the threshold."""

_BLOCKS = 16
_STEP = THUMBNAIL_SIDE // _BLOCKS
_QUARTER = _BLOCKS * _BLOCKS // 4
EMBEDDING_SIZE = _BLOCKS * _BLOCKS + 1


@dataclass(frozen=True)
class Pairs:
    """Verified pairs: positions a < b in the compared images, similarity (n,), transform (n,) of
    TRANSFORMS."""

    a: Ints
    b: Ints
    similarity: Floats
    transform: Ints


def normalise(thumbnails: NDArray[np.uint8]) -> Floats:
    """Scales (n, 96, 96) thumbnails to zero mean and unit norm: (n, 9216); a uniform image becomes zeros."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("ij,ij->i", flat, flat))  # several times faster than np.linalg.norm
    flat /= np.maximum(norm, 1e-6)[:, None]
    return flat


def embed(thumbnails: NDArray[np.uint8], step: int = 256) -> Floats:
    """Returns (n, 257): the 256 block means of (n, 96, 96) thumbnails by symmetry, and the norm of the rest.

    The first 64 are even both ways; then 64 each are odd top-bottom, odd left-right, odd both ways. `step`
    thumbnails are computed at a time, to bound memory.
    """
    parts = [_embed(thumbnails[k : k + step]) for k in range(0, len(thumbnails), step)]
    return np.concatenate(parts) if parts else np.empty((0, EMBEDDING_SIZE), np.float32)


def _embed(thumbnails: NDArray[np.uint8]) -> Floats:
    unit = normalise(thumbnails).reshape(-1, _BLOCKS, _STEP, _BLOCKS, _STEP)
    means = unit.mean(axis=(2, 4)) * _STEP
    whole = unit.any(axis=(1, 2, 3, 4))  # 1, the norm of the whole; of a uniform image 0
    rest = np.sqrt(np.maximum(0.0, whole - np.square(means).sum(axis=(1, 2))))
    half = _BLOCKS // 2
    left, right = means[:, :, :half], means[:, :, half:][:, :, ::-1]
    parts = []
    for wide in (left + right, left - right):
        top, bottom = wide[:, :half], wide[:, half:][:, ::-1]
        parts += [(top + bottom) / 2, (top - bottom) / 2]
    flat = [part.reshape(len(means), -1) for part in parts]
    return np.concatenate([*flat, rest[:, None]], axis=1).astype(np.float32)


def lowest_counted(threshold: float) -> float:
    """Returns the least similarity of pairs that are searched for: below the threshold they are near
    misses."""
    return min(NEAR_MISS, threshold - MARGIN)


def candidates(first: Floats, second: Floats, threshold: float, step: int = 512) -> tuple[Ints, Ints]:
    """Returns the positions of all pairs that may reach a similarity; no pair that reaches it is missing.

    Args:
        first: (n, 257), from `embed`.
        second: (m, 257), from `embed`.
        threshold: least similarity of two copies.
        step: rows computed at a time, so that the products stay in the processor's cache.
    """
    found_a, found_b = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    first_even, first_odd = _loose_parts(first)
    second_even, second_odd = _loose_parts(second)
    for i in range(0, len(first), step):
        for j in range(0, len(second), step):
            loose = first_odd[i : i + step] @ second_odd[j : j + step].T
            np.abs(loose, out=loose)
            loose += first_even[i : i + step] @ second_even[j : j + step].T
            rows, columns = np.nonzero(loose >= threshold - 1e-5)
            for k in range(0, len(rows), 16_384):
                a, b = rows[k : k + 16_384] + i, columns[k : k + 16_384] + j
                keep = _bound(first[a] * second[b]) >= threshold - 1e-5
                found_a.append(a[keep])
                found_b.append(b[keep])
    return np.concatenate(found_a), np.concatenate(found_b)


def _loose_parts(embedded: Floats) -> tuple[Floats, Floats]:
    """Returns the parts of a looser bound, for two products instead of four: (n, 67) and (n, 64).

    The parts that are odd left-right are small in heads: only their norms are used.
    """
    norms = [np.linalg.norm(embedded[:, k : k + _QUARTER], axis=1) for k in (2 * _QUARTER, 3 * _QUARTER)]
    even = np.column_stack([embedded[:, :_QUARTER], *norms, embedded[:, -1]])
    return np.ascontiguousarray(even, np.float32), np.ascontiguousarray(embedded[:, _QUARTER : 2 * _QUARTER])


def _bound(products: Floats) -> Floats:
    """Returns the bound of the best position, (n,), from the products of two embeddings, (n, 257)."""
    parts = products[:, :-1].reshape(-1, 4, _QUARTER).sum(axis=2)
    even, odd_top, odd_left, odd_both = parts.T
    # The larger of each two opposite positions: |x| takes both signs of the part odd left-right.
    upright = even + odd_top + np.abs(odd_left + odd_both)
    upside = even - odd_top + np.abs(odd_left - odd_both)
    return np.asarray(np.maximum(upright, upside) + products[:, -1], np.float32)


def verify(
    first: NDArray[np.uint8], second: NDArray[np.uint8], a: Ints, b: Ints, threshold: float, step: int = 256
) -> Pairs:
    """Compares candidate pairs in full and returns those that reach the threshold.

    Args:
        first: (n, 96, 96) thumbnails, uint8.
        second: (m, 96, 96) thumbnails, uint8.
        a: positions of the candidates in `first`.
        b: positions of the candidates in `second`.
        threshold: least similarity of two copies.
        step: pairs compared at a time, to bound memory.
    """
    kept: list[tuple[Ints, Ints, Floats, Ints]] = []
    side = THUMBNAIL_SIDE
    for k in range(0, len(a), step):
        rows, columns = a[k : k + step], b[k : k + step]
        x = normalise(first[rows]).reshape(-1, side, side)
        y = normalise(second[columns]).reshape(-1, side, side)
        views = (y, y[:, :, ::-1], y[:, ::-1], y[:, ::-1, ::-1])
        similarity = np.stack([np.einsum("nij,nij->n", x, view) for view in views])
        best = similarity.argmax(axis=0)
        value = similarity.max(axis=0)
        keep = value >= threshold
        kept.append((rows[keep], columns[keep], value[keep], best[keep]))
    if not kept:
        none = np.empty(0, np.int64)
        return Pairs(none, none, none.astype(np.float32), none)
    joined = [np.concatenate(column) for column in zip(*kept, strict=True)]
    return Pairs(joined[0], joined[1], joined[2].astype(np.float32), joined[3].astype(np.int64))


def cluster(count: int, a: Ints, b: Ints) -> Ints:
    """Joins pairs into clusters; returns (count,) ids. An image without a copy is a cluster of its own."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    edges = coo_array((np.ones(len(a), np.int8), (a, b)), shape=(count, count))
    _, labels = connected_components(edges, directed=False)
    return np.asarray(labels, np.int64)


def equal_pairs(hashes: pd.Series) -> tuple[Ints, Ints]:
    """Returns positions (a, b) that chain the rows with equal hashes: k rows give k - 1 pairs."""
    groups = pd.Series(np.arange(len(hashes))).groupby(hashes.to_numpy(), sort=False)
    before = groups.shift()
    later = before.notna().to_numpy()
    return before[later].to_numpy(np.int64), np.flatnonzero(later).astype(np.int64)
