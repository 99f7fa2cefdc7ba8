"""Recognition of the images of known data sets by their pixels, in eight orientations. Pure functions.

A fingerprint is the image, whole and grey, shrunk to 24x24. Two of them are compared by their correlation, so
that brightness and contrast do not matter.

Few pairs are compared in full. A fingerprint is split into the parts that are even both ways, odd top-bottom,
odd left-right and odd both ways, on which mirroring acts by signs. By Cauchy and Schwarz, the product of the
even parts plus the products of the other parts' norms bounds the correlation of two images in four
orientations, and with one of them transposed in the other four.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brain_ray.data.registry.store import SIDE, Registry
from brain_ray.data.transforms import THUMBNAIL_SIDE

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Pixels = NDArray[np.uint8]

ORIENTATIONS = (
    "identity",
    "mirrored",
    "flipped",
    "turned",
    "transposed",
    "turned left",
    "turned right",
    "transposed and turned",
)
"""How an image lies, seen from the known one: as it is, left-right, top-bottom, by 180 degrees; rows and
columns exchanged, by 90 degrees to the left and to the right, and exchanged along the other diagonal."""

THRESHOLD = 0.99
"""Least correlation of two fingerprints at which an image counts as recognised.

Of the Kaggle set "Brain Tumor MRI Dataset", the 4159 files that show a slice of Figshare's have 0.9995 or
more, and the others 0.968 or less (`tests/data/registry/test_figshare.py`)."""

BATCH = 256
"""Number of images that are compared at a time, so that their products stay in the processor's cache."""

PAIRS = 4096
"""Largest number of pairs that are compared in full at a time, to bound memory."""


def fingerprint(thumbnails: Pixels) -> Pixels:
    """Returns fingerprints, (n, 24, 24), of thumbnails of whole images, (n, 96, 96); both are uint8."""
    step = THUMBNAIL_SIDE // SIDE
    rows = thumbnails.reshape(-1, SIDE, step, THUMBNAIL_SIDE).sum(axis=2, dtype=np.uint16)
    cells = rows.reshape(-1, SIDE, SIDE, step).sum(axis=3, dtype=np.uint16)
    return np.asarray((cells + step * step // 2) // (step * step), np.uint8)


def normalise(images: Pixels) -> Floats:
    """Scales (n, height, width) images to zero mean and unit norm: (n, height * width); a uniform image
    becomes zeros."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("ij,ij->i", flat, flat))  # several times faster than np.linalg.norm
    flat /= np.maximum(norm, 1e-6)[:, None]
    return flat


def recognise(thumbnails: Pixels, registry: Registry, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Returns the known image that each of (n, 96, 96) thumbnails shows, as `recognise_prints` does."""
    return recognise_prints(fingerprint(thumbnails), registry, threshold)


def recognise_prints(prints: Pixels, registry: Registry, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Returns the known image that each image shows.

    Args:
        prints: (n, 24, 24), uint8, from `fingerprint`; a uniform one shows none.
        registry: the known images.
        threshold: least correlation.

    Returns:
        Table of n rows: known (position in `registry.entries`, or -1), known_orientation (of `ORIENTATIONS`,
            or ""), and known_similarity, the correlation, float32 (or 0).
    """
    bounds = _bounds(registry.fingerprints)
    found = [_NO_PAIRS]
    for start in range(0, len(prints), BATCH):
        some = prints[start : start + BATCH]
        for a, b in _candidates(some, bounds, threshold):
            pairs = _compare(some[a], registry.fingerprints[b]).assign(image=a + start, known=b)
            found.append(pairs[pairs["known_similarity"] >= threshold])
    best = pd.concat(found).sort_values("known_similarity").drop_duplicates("image", keep="last")
    table = best.set_index("image").reindex(range(len(prints)))
    none = {"known": -1, "known_orientation": "", "known_similarity": 0}
    return table.fillna(none).astype(dict(_NO_PAIRS.dtypes.drop("image"))).reset_index(drop=True)


_NO_PAIRS = pd.DataFrame({"image": [], "known": [], "known_orientation": [], "known_similarity": []}).astype(
    {"image": "int64", "known": "int64", "known_orientation": "str", "known_similarity": "float32"}
)


def _candidates(prints: Pixels, bounds: Floats, threshold: float) -> Iterator[tuple[Ints, Ints]]:
    """Yields the positions of all pairs that may reach a threshold in one of eight orientations, some at a
    time."""
    likely = _bounds(prints) @ bounds.T >= threshold - 1e-5
    likely |= _bounds(prints.transpose(0, 2, 1)) @ bounds.T >= threshold - 1e-5
    a, b = np.nonzero(likely)
    for k in range(0, len(a), PAIRS):
        yield a[k : k + PAIRS], b[k : k + PAIRS]


def _bounds(prints: Pixels) -> Floats:
    """Returns (n, 147): the part that is even both ways, and the norms of the other three."""
    unit = normalise(prints).reshape(-1, SIDE, SIDE)
    half = SIDE // 2
    left, right = unit[:, :, :half], unit[:, :, half:][:, :, ::-1]
    parts = []
    for wide in (left + right, left - right):
        top, bottom = wide[:, :half], wide[:, half:][:, ::-1]
        parts += [(top + bottom) / 2, (top - bottom) / 2]
    even, *odd = (part.reshape(len(unit), half * half) for part in parts)
    return np.column_stack([even, *(np.linalg.norm(part, axis=1) for part in odd)]).astype(np.float32)


def _compare(prints: Pixels, known: Pixels) -> pd.DataFrame:
    """Compares pairs in full: (n, 24, 24) each; returns the best orientation and its correlation."""
    unit = normalise(known).reshape(-1, SIDE, SIDE)
    image = normalise(prints).reshape(-1, SIDE, SIDE)
    views = [
        view
        for upright in (image, image.transpose(0, 2, 1))
        for view in (upright, upright[:, :, ::-1], upright[:, ::-1], upright[:, ::-1, ::-1])
    ]
    similarity = np.stack([np.einsum("nij,nij->n", view, unit) for view in views])
    names = np.array(ORIENTATIONS)[similarity.argmax(axis=0)]
    return pd.DataFrame({"known_orientation": names, "known_similarity": similarity.max(axis=0)})
