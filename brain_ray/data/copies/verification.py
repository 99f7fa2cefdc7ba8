"""Verification of candidates: which pairs of images are copies, after alignment of their views."""

from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies import alignment
from brain_ray.data.copies.candidates import Candidates, as_candidates
from brain_ray.data.copies.clusters import cluster
from brain_ray.data.copies.head_view import SIDE
from brain_ray.data.copies.matching import coarsen, match, prepare
from brain_ray.data.copies.placement import TURNS, nearest_turns, turn
from brain_ray.data.copies.spectra import transform

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

MARGIN = 0.02
"""Width of the range of near misses below the threshold."""

LEAST_IN_POSE = 0.81
"""Least similarity, in the pose that spectra tell, of two views that are aligned."""

COARSE_SIDE = 48
"""Side of the views, in pixels, in the first alignment."""

COARSE_STEPS, FULL_STEPS = 2, 8
"""Number of steps of the first alignment, and of the second, of views in their full size."""

COARSE_MARGIN = 0.03
"""How much lower than the threshold the similarity may be after the first alignment for the second to be
tried."""

FAILURES = 2
"""Number of pairs of two groups of copies that are aligned in vain before the others are passed over."""

BATCH = 256
"""Number of candidates that are compared at a time."""

DETAILS = 4096
"""Number of views whose details are kept, 41 KB of each."""


@dataclass(frozen=True)
class Pairs:
    """Verified pairs: copies and near misses."""

    a: Ints
    """(n,): positions of the first images."""
    b: Ints
    """(n,): positions of the second images."""
    view: Ints
    """(n,): the view that was compared."""
    similarity: Floats
    """(n,): correlation of the views' details (see `brain_ray.data.copies.alignment`)."""
    aligned: NDArray[np.bool_]
    """(n,): whether they are so similar only after alignment."""
    transforms: Floats
    """(n, 2, 3): from the first view to the second."""
    num_aligned: int
    """Number of pairs that were aligned."""


def verify(views: NDArray[np.uint8], candidates: Candidates, threshold: float) -> Pairs:
    """Compares candidates in the nearest of eight orientations, in the pose that their spectra tell, and then
    aligned; returns the copies and near misses.

    Args:
        views: (n, 2, 64, 64) views of the images.
        candidates: pairs of positions in `views`, with poses from `candidates.search`.
        threshold: least similarity of two copies; near misses are `MARGIN` lower at most.
    """

    @lru_cache(DETAILS)
    def details(row: int, view: int) -> Floats:
        return alignment.details(views[row, view])

    @lru_cache(DETAILS)
    def small(row: int, view: int) -> Floats:
        return alignment.shrink(views[row, view], COARSE_SIDE)

    starts = candidates["pose"]
    turns = nearest_turns(starts)
    similarity = np.zeros(len(candidates), np.float32)
    for number in np.unique(turns).tolist():
        chosen = np.flatnonzero(turns == number)
        for k in range(0, len(chosen), BATCH):
            rows = candidates[chosen[k : k + BATCH]]
            first, second = (
                np.stack([details(*key) for key in rows[[side, "view"]].tolist()]) for side in ("a", "b")
            )
            similarity[chosen[k : k + BATCH]] = alignment.correlate(first, turn(second, number))
    transforms = alignment.about_middle(TURNS[turns].astype(np.float32))
    aligned = np.zeros(len(candidates), np.bool_)
    num_aligned = 0
    groups = _groups(candidates, similarity >= threshold)
    failures: Counter[int] = Counter()
    rest = np.flatnonzero(similarity < threshold)
    for k in rest[np.argsort(-candidates["changed"][rest], kind="stable")].tolist():
        if failures[groups[k]] >= FAILURES:
            continue
        one, other, view = (int(candidates[name][k]) for name in ("a", "b", "view"))
        compared = details(one, view), details(other, view)
        if alignment.correlate_moved(*compared, starts[k]) < LEAST_IN_POSE:
            continue
        num_aligned += 1
        moved = alignment.align(small(one, view), small(other, view), starts[k], COARSE_STEPS)
        value = alignment.correlate_moved(*compared, moved)
        if threshold - COARSE_MARGIN <= value < threshold:
            full = [alignment.shrink(views[row, view], SIDE) for row in (one, other)]
            moved = alignment.align(full[0], full[1], moved, FULL_STEPS)
            value = max(value, alignment.correlate_moved(*compared, moved))
        failures[groups[k]] += value < threshold - MARGIN
        if value > similarity[k]:
            similarity[k], transforms[k], aligned[k] = value, moved, True
    kept = np.flatnonzero(similarity >= threshold - MARGIN)
    found = candidates["a"][kept], candidates["b"][kept], candidates["view"][kept]
    return Pairs(*found, similarity[kept], aligned[kept], transforms[kept], num_aligned)


def alike(views: NDArray[np.uint8], a: Ints, b: Ints, least: float) -> NDArray[np.bool_]:
    """Returns whether pairs of images, (n,), have a similarity of at least `least` after alignment.

    Args:
        views: (m, 2, 64, 64) views of the images.
        a: positions of the first images, (n,).
        b: positions of the second images, (n,).
        least: least similarity.
    """
    parts = []
    for view in range(views.shape[1]):
        one, other = (transform(views[rows, view]) for rows in (a, b))
        own = np.arange(len(a))
        parts.append(as_candidates(match(prepare(one), coarsen(other), own, own, 0), a, b, view, 0))
    pairs = verify(views, np.concatenate(parts), least + MARGIN)
    found = set(zip(pairs.a.tolist(), pairs.b.tolist(), strict=True))
    return np.array([pair in found for pair in zip(a.tolist(), b.tolist(), strict=True)], np.bool_)


def _groups(candidates: Candidates, copies: NDArray[np.bool_]) -> list[int]:
    """Returns a number for each candidate, equal if its images are copies of those of another one."""
    a, b = candidates["a"], candidates["b"]
    count = 1 + int(max(a.max(initial=0), b.max(initial=0)))
    joined = cluster(count, a[copies], b[copies])
    numbers: list[int] = (
        np.minimum(joined[a], joined[b]) * count + np.maximum(joined[a], joined[b])
    ).tolist()
    return numbers
