"""Views of an image for the measurement of shortcuts: few numbers each, most of them without the head.

A network may tell the classes by how images were made rather than by what they show (Geirhos et al. 2020,
doi.org/10.1038/s42256-020-00257-z). Each view is one way to do so. The head is left out of the pixels' views:
what is left out of an image is unknown (NaN), and not zero, so that the head's place does not tell either."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.file_checks.jpeg import read_tables
from brain_ray.data.file_checks.png import read_header
from brain_ray.data.formats import FORMATS, format_of
from brain_ray.data.intensity import count_pixels

Floats = NDArray[np.float32]

EDGES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 192, 224, 240, 255], np.intp)
"""First grey level of each bin of a histogram: fine where the air lies."""

NUM_CELLS = 8
"""Number of cells along a side of the frame."""

FRAME = 16
"""The frame's depth is the image's height or width divided by this."""

GROWTH = 0.04
"""How far the head's outline is moved outwards, as a share of the square root of its area."""

LEAST = 2
"""Least number of pixels, of those looked at, by which the outline is moved outwards."""

SEEN = 0.1
"""Least share of a cell's pixels that lie outside the head; with fewer, the cell is unknown."""

SIDE = 112
"""About the number of pixels that are looked at along an image's longer side: every second of 224. None is
averaged with its neighbours, which may be of the head."""

NUM_FORMAT_FACTS = 8
"""Number of facts of a file, its format included."""


@dataclass(frozen=True)
class View:
    """What a view shows."""

    title: str
    sees_head: bool
    """Whether pixels of the head have an influence on it."""
    length: int
    """How many numbers it has."""
    kinds: bool = False
    """Whether its numbers have few values, which are kinds rather than amounts."""


VIEWS = {
    "size": View("width and height", False, 3, kinds=True),
    "format": View("file format, bit depth, channels and JPEG tables", False, NUM_FORMAT_FACTS, kinds=True),
    "frame": View("outer frame of the image outside the head", False, 8 * NUM_CELLS),
    "background": View("grey levels outside the head", False, len(EDGES)),
    "compression": View("bytes of the file per pixel", True, 1),
    "histogram": View("grey levels of the whole image", True, len(EDGES)),
}
"""The views, by name. How well a file is compressed depends on what it shows, so on the head too."""

WITHOUT_HEAD = tuple(name for name, view in VIEWS.items() if not view.sees_head)

PIXEL_VIEWS = ("frame", "background", "histogram")
"""Views that `view_pixels` returns, in this order."""

SCANNED = ("format", *PIXEL_VIEWS)
"""Views that need an image's file, in the order in which a scan stores them."""

NUM_SCANNED = sum(VIEWS[name].length for name in SCANNED)


def view_pixels(image: Grey, outline: NDArray[np.float32], counts: Floats | None = None) -> Floats:
    """Returns an image's `PIXEL_VIEWS`, one after the other, float32.

    Frame: mean and standard deviation of the grey levels in eight cells along each side; NaN for cells that
    are, but for a tenth, within the head. Histograms: the square root of each bin's share.

    Args:
        image: (height, width).
        outline: corners of the head's convex outline, (n, 2), as `head_view.find_outline` returns them. It is
            moved outwards a little: the edge of the head is no part of the frame. (The crop's box would not
            do: where a bright frame surrounds the head, that is what it encloses.)
        counts: the image's `intensity.count_pixels`, if it is known already.
    """
    step = max(1, round(max(image.shape) / SIDE))
    small = np.ascontiguousarray(image[::step, ::step])
    outside = _mark_outside(small.shape, outline / step)
    whole = count_pixels(image) if counts is None else counts
    around = count_pixels(small, outside)
    return np.concatenate([_frame(small, outside), _histogram(around), _histogram(whole)])


def view_size(width: int, height: int) -> Floats:
    """Returns the view `size`: width, height, and width by height."""
    return np.array([width, height, width / height], np.float32)


def view_format(content: bytes) -> Floats:
    """Returns the view `format` of an encoded file: the number of its format in `FORMATS`; and, where the
    header of a JPEG or PNG says it, else NaN, what `jpeg.read_tables` or `png.read_header` return."""
    found = format_of(content, FORMATS.values())
    name = "" if found is None else found.name
    facts: list[float] = []
    if name == "JPEG":
        facts = read_tables(content)
    elif name == "PNG":
        facts = read_header(content)
    number = list(FORMATS).index(name) if name in FORMATS else -1
    facts = [number, *facts, *[np.nan] * NUM_FORMAT_FACTS]
    return np.array(facts[:NUM_FORMAT_FACTS], np.float32)


def _mark_outside(shape: tuple[int, ...], outline: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns a mask of a shape: 1 outside the head's outline, 0 within it."""
    outside = np.ones(shape, np.uint8)
    corners = np.round(outline).astype(np.int32)
    reach = max(LEAST, round(GROWTH * float(np.sqrt(cv2.contourArea(corners)))))
    cv2.fillConvexPoly(outside, corners, (0,))
    cv2.polylines(outside, [corners], True, (0,), 2 * reach + 1)
    return outside


def _frame(image: Grey, outside: NDArray[np.uint8]) -> Floats:
    down, across = (max(1, side // FRAME) for side in image.shape)
    strips = [
        [np.ascontiguousarray(part) for part in (a[:down], a[-down:], a.T[:across], a.T[-across:])]
        for a in (image, outside)
    ]
    return np.concatenate([_cells(levels, seen) for levels, seen in zip(*strips, strict=True)])


def _cells(levels: Grey, seen: NDArray[np.uint8]) -> Floats:
    """Returns the means, then the deviations, of what is seen of each cell of a strip, (2 * NUM_CELLS,)."""
    shown = np.multiply(levels, seen, dtype=np.float32)
    columns = np.stack([seen.sum(axis=0, dtype=np.float32), shown.sum(axis=0), (shown * shown).sum(axis=0)])
    starts = [k * levels.shape[1] // NUM_CELLS for k in range(NUM_CELLS)]
    counts, sums, squares = np.add.reduceat(columns, starts, axis=1)
    counts[counts <= SEEN * levels.size / NUM_CELLS] = np.nan
    means = sums / counts
    return np.concatenate([means, np.sqrt(np.maximum(squares / counts - means**2, 0))])


def _histogram(counts: Floats) -> Floats:
    bins = np.add.reduceat(counts, EDGES)
    total = bins.sum()
    if total == 0:  # the head fills the image
        return np.full(len(EDGES), np.nan, np.float32)
    return np.asarray(np.sqrt(bins / total), np.float32)
