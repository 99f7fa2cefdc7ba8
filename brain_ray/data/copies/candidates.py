"""Search for pairs of images that may be copies, by products of embeddings and then by spectra.

Two images are copies if they show the same slice, in any of eight orientations, with any brightness, contrast
and gamma, with other margins, cut to the head, and shifted, turned, zoomed or stretched a little.

Each stage leaves few pairs to the next, costlier one. All pairs are compared by a product of embeddings
(`whitening`); those left by their spectra, which also give the pose (`matching`); those left by what they
show, and then aligned (`verification`). Every image has two views: of the head in the whole image, and of the
head in the crop that training takes, which may show a part of it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.copies import matching, spectra
from brain_ray.data.copies.alignment import poses
from brain_ray.data.copies.whitening import PLAIN_FLOOR

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

NUM_VIEWS = 2
"""Number of views of an image: of the whole image's head, and of the crop's."""

CANDIDATE = np.dtype(
    {
        "names": ["a", "b", "view", "changed", "pose"],
        "formats": [np.int64, np.int64, np.int64, np.float32, (np.float32, (2, 3))],
    }
)
"""Fields of a candidate: positions a and b of two images, the view, 0 or 1, in which they resemble each other
most, the correlation of their spectra after small changes (see `matching.Matches`), and their pose, a
transform from the first view to the second (see `alignment.poses`)."""

Candidates = NDArray[np.void]
"""(n,) array of `CANDIDATE`."""

CORRELATED = 0.68
"""Least correlation of two spectra for which small changes are tried."""

CHANGED = 0.855
"""Least correlation, after small changes, of two spectra whose views are aligned."""


@dataclass(frozen=True)
class Index:
    """What candidates are found from, for n images."""

    embeddings: Floats
    """(n, 2, 104): of each view, from `spectra.embed` or whitened; zeros resemble nothing."""
    packed: NDArray[np.int8]
    """(n, 2, 336): of each view, from `spectra.pack`."""


def index(views: NDArray[np.uint8]) -> Index:
    """Returns the index of (n, 2, 64, 64) views, from `head_view.view_twice`."""
    embeddings = np.empty((len(views), NUM_VIEWS, spectra.EMBEDDING_SIZE), np.float32)
    packed = np.empty((len(views), NUM_VIEWS, spectra.PACKED_SIZE), np.int8)
    # Where the crop cuts nothing off, the second view is the first one.
    other = np.flatnonzero((views[:, 1] != views[:, 0]).any(axis=(1, 2)))
    for view, rows in enumerate((np.arange(len(views)), other)):
        found = spectra.transform(views[rows, view])
        for columns, values in ((embeddings, spectra.embed(found)), (packed, spectra.pack(found))):
            columns[rows, view:] = values[:, None]
    return Index(embeddings, packed)


def search(
    first: Index, second: Index | None = None, floor: float = PLAIN_FLOOR, step: int = 512
) -> Candidates:
    """Finds the pairs of images that may be copies, ordered by a and b.

    Args:
        first: images of the first group.
        second: images of the second group; None: pairs a < b within the first one.
        floor: least product of two embeddings whose spectra are compared.
        step: images compared with as many others at a time, so that products stay in the processor's cache.
    """
    other = second or first
    parts = [np.empty(0, CANDIDATE)]
    for view, rows, columns in _passes(first, other):
        embeddings = other.embeddings[columns, view]
        others = matching.coarsen(spectra.unpack(other.packed[columns, view]))
        for i in range(0, len(rows), step):
            some = rows[i : i + step]
            own = matching.prepare(spectra.unpack(first.packed[some, view]))
            # Pairs within a group are found once, from the image that comes first.
            start = 0 if second else int(columns.searchsorted(some[0], "right"))
            for one, two in _products(first.embeddings[some, view], embeddings[start:], floor, step):
                a, b = some[one], columns[two + start]
                kept = slice(None) if second else a < b
                found = matching.match(own, others, one[kept], two[kept] + start, CORRELATED)
                parts.append(as_candidates(found, a[kept], b[kept], view))
    joined = np.concatenate(parts)
    # A pair that is found in both views is compared further in the better one.
    joined = joined[np.lexsort((-joined["changed"], joined["b"], joined["a"]))]
    again = (np.diff(joined["a"], prepend=-1) == 0) & (np.diff(joined["b"], prepend=-1) == 0)
    return np.asarray(joined[~again])


def _passes(first: Index, second: Index) -> Iterator[tuple[int, Ints, Ints]]:
    """Yields views, and the positions of the first and second images that are compared in them.

    Two images whose crops cut nothing off need not be compared in their second views, too.
    """
    all_first, all_second = (np.arange(len(one.packed)) for one in (first, second))
    cut_first, cut_second = (_is_cut(one) for one in (first, second))
    yield 0, all_first, all_second
    yield 1, all_first[cut_first], all_second
    yield 1, all_first[~cut_first], all_second[cut_second]


def _is_cut(index: Index) -> NDArray[np.bool_]:
    """Returns for each image whether its second view is another than its first."""
    return np.asarray((index.packed[:, 1] != index.packed[:, 0]).any(axis=1))


def as_candidates(
    matches: matching.Matches, a: Ints, b: Ints, view: int, least: float = CHANGED
) -> Candidates:
    """Returns those matches of pairs of images, (n,), in a view as candidates that correlate by `least` after
    small changes."""
    kept = np.flatnonzero(matches.changed >= least)
    found = np.empty(len(kept), CANDIDATE)
    found["a"], found["b"], found["view"], found["changed"] = a[kept], b[kept], view, matches.changed[kept]
    found["pose"] = poses(matches.angle[kept], matches.mirrored[kept], matches.changes[kept])
    return found


def _products(rows: Floats, columns: Floats, floor: float, step: int) -> Iterator[tuple[Ints, Ints]]:
    """Yields the positions of pairs whose products reach the floor, some thousands at a time."""
    for j in range(0, len(columns), step):
        part = columns[j : j + step]
        one, two = np.divmod(np.flatnonzero(rows @ part.T >= floor), len(part))
        for k in range(0, len(one), 4096):
            yield one[k : k + 4096], two[k : k + 4096] + j
