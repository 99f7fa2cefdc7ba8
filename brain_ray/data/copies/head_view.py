"""View of a head for the audit: the head, wherever it lies in an image, in a frame of its own.

Two images of one slice may show it with other margins, at another scale, place or brightness. The outline
of the head moves with it: its centre and area define the frame, so that equal heads get about equal views.
Grey levels are replaced by their ranks within the outline, which no change of brightness, contrast or gamma
alters.
"""

from dataclasses import dataclass, replace
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.data.transforms import Box

SIDE = 64
"""Side of a view in pixels."""

COVER = 1.4
"""Width of a view in units of the square root of the head's area: room for an ellipse of 3:2."""

MIN_SHARE = 0.1
"""Least share of an image, without its uniform margins, that an outline encloses."""

SEARCH_SIDE = 112
"""About the longer side, in pixels, to which an image is shrunk before the outline is searched."""

UNIFORM = 8
"""Largest difference of grey levels within a row or column of a margin."""

THRESHOLD = 0.35
"""Where the threshold lies between the mean of the air and that of the head, on square roots of levels."""

REGION = 0.05
"""Least area of a region within the outline, as a share of the largest one's."""

SMOOTH = 0.5
"""Deviation, in pixels of a view, of the Gaussian that smooths an image before it is resampled."""

CUT = 0.05
"""How much of the head a crop may cut off at a side, as a share of its size, without a view of its own."""

_SQUARE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class HeadView:
    """A head in its own frame."""

    ranks: Grey
    """(64, 64), uint8: 0 outside the outline; inside, the rank of the grey level from 1 to 255."""
    x: float
    """Centre of the outline in pixels of the image; 0 is the middle of the first pixel."""
    y: float
    size: float
    """Square root of the outline's area, in pixels of the image."""


def view_head(image: Grey) -> HeadView:
    """Finds the head's outline in an image, (height, width), and shows what it encloses in its own frame.

    The outline is the convex hull of the large regions that are brighter than the air, by a threshold from
    Otsu's classes (1979) on square roots of grey levels. Uniform margins, of any brightness, are no part of
    the image. If the hull is too small, the outline is the largest ellipse in the image.
    """
    return _view(image, *find_outline(image))


def view_twice(
    image: Grey, box: Box, outline: tuple[NDArray[np.float32], Box] | None = None
) -> tuple[NDArray[np.uint8], list[float]]:
    """Returns the views of a whole image's head and of the head in its crop, (2, 64, 64), and where it lies.

    The latter is x, y and size in the first view, then in the second, in pixels of the image. A crop may
    show less than the head: only its own view is like that of a copy that was cut to it. Where it cuts
    nothing off, the second view is the first one. `outline` is the image's, if it is known already.
    """
    hull, content = outline or find_outline(image)
    whole = part = _view(image, hull, content)
    outside = np.maximum((box.left, box.top) - hull, hull + 1 - (box.right, box.bottom)).max()
    if outside > CUT * whole.size:
        part = view_head(box.crop(image))
        part = replace(part, x=part.x + box.left, y=part.y + box.top)
    heads = [value for view in (whole, part) for value in (view.x, view.y, view.size)]
    return np.stack([whole.ranks, part.ranks]), heads


def _view(image: Grey, hull: NDArray[np.float32], content: Box) -> HeadView:
    moments = cv2.moments(hull)
    x, y = moments["m10"] / moments["m00"], moments["m01"] / moments["m00"]
    size = float(np.sqrt(moments["m00"]))
    scale = SIDE / (COVER * size)
    inside = np.zeros((SIDE, SIDE), np.uint8)
    corners = scale * (hull - (x, y)) + (SIDE - 1) / 2
    cv2.fillConvexPoly(inside, np.round(corners * 16).astype(np.int32), (1,), shift=4)
    # Beside the content, margins would be mixed with it.
    levels = _resample(content.crop(image), x - content.left, y - content.top, scale)
    return HeadView(rank(levels, inside), x, y, size)


def rank(levels: Grey, inside: NDArray[np.uint8]) -> Grey:
    """Replaces the grey levels where `inside` is 1 by their ranks, 1 to 255, and those where it is 0 by 0."""
    counts = cv2.calcHist([levels], [0], inside, [256], [0, 256]).ravel()
    below = np.cumsum(counts) - counts / 2
    table = np.rint(1 + 254 * below / max(1, counts.sum())).astype(np.uint8)
    return np.asarray(cv2.LUT(levels, table) * inside, np.uint8)


def _resample(image: Grey, x: float, y: float, scale: float) -> Grey:
    """Returns a frame of (64, 64) whose middle is (x, y) in the image, whose edges are repeated beyond it.

    The image is first averaged over squares of pixels and smoothed: interpolation alone would leave pixels
    out, and views would depend on where their pixels fall.
    """
    square = max(1, int(0.7 / scale))
    reach = SIDE / 2 / scale + square + 1
    left, top = (max(0, int(at - reach)) for at in (x, y))
    step = scale * square
    part = average(image[top : int(y + reach), left : int(x + reach)], square)
    part = np.asarray(cv2.GaussianBlur(part, (5, 5), SMOOTH / step), np.uint8)
    middle = (SIDE - 1) / 2
    shift_x, shift_y = (step / 2 + scale * (start - 0.5 - at) + middle for start, at in ((left, x), (top, y)))
    matrix = np.array([[step, 0, shift_x], [0, step, shift_y]])
    return np.asarray(
        cv2.warpAffine(part, matrix, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )


def average(image: Grey, square: int) -> Grey:
    """Returns the means of squares of pixels; what is left over at the right and at the bottom is cut off."""
    high, wide = (side // square for side in image.shape)
    if square == 1 or not high or not wide:
        return image
    # Whole squares: OpenCV takes several times as long for other factors.
    whole = image[: high * square, : wide * square]
    return np.asarray(cv2.resize(whole, (wide, high), interpolation=cv2.INTER_AREA), np.uint8)


def find_outline(image: Grey) -> tuple[NDArray[np.float32], Box]:
    """Returns the corners, (n, 2) as x and y in pixels of the image, of the head's convex hull; and the box
    of what lies between uniform margins."""
    square = min(max(1, round(max(image.shape) / SEARCH_SIDE)), *image.shape)
    small = average(image, square)
    content = Box(*_content(small, 1), *_content(small, 0))
    hull = _hull(_above_air(np.asarray(cv2.GaussianBlur(content.crop(small), (3, 3), 0), np.uint8)))
    if hull is None:
        angles = np.linspace(0, 2 * np.pi, 32, endpoint=False)
        ellipse = np.stack([np.cos(angles), np.sin(angles)], axis=1)
        high, wide = content.crop(small).shape
        hull = (1 + ellipse) * (np.array([wide, high]) - 1) / 2
    corners = (hull + np.array([content.left + 0.5, content.top + 0.5])) * square - 0.5
    ends = [
        end * square if end < count else full
        for end, count, full in zip((content.bottom, content.right), small.shape, image.shape, strict=True)
    ]
    whole = Box(content.top * square, ends[0], content.left * square, ends[1])
    return np.asarray(corners, np.float32), whole


def _content(image: Grey, axis: int) -> tuple[int, int]:
    """Returns the first and the end of the rows (axis 1) or columns (axis 0) between uniform margins."""
    varied = np.flatnonzero(np.ptp(image, axis=axis) > UNIFORM)
    count = image.shape[1 - axis]
    if len(varied) < count / 8:
        return 0, count
    first, last = int(varied[0]), int(varied[-1])
    # The line beside a margin mixes it with the picture.
    first, end = first + (first > 0), last + (last == count - 1)
    return (first, end) if first < end else (0, count)


def _above_air(image: Grey) -> NDArray[np.uint8]:
    """Returns a mask, 0 or 1, of what is brighter than the air around a head.

    Square roots bring the air and the dark parts of a head as far apart as the latter and its bright parts.
    """
    share = np.cumsum(cv2.calcHist([image], [0], None, [256], [0, 256]).ravel(), dtype=np.float64)
    share /= image.size
    roots = _roots()[int(share.searchsorted(0.01))]
    total = np.cumsum(np.diff(share, prepend=0) * roots)
    spread = (total[-1] * share - total) ** 2 / np.maximum(share * (1 - share), 1e-9)
    split = int(spread.argmax())
    if spread[split] <= 0 or share[split] >= 1:
        return np.zeros(image.shape, np.uint8)
    low, high = total[split] / share[split], (total[-1] - total[split]) / (1 - share[split])
    level = roots.searchsorted(low + THRESHOLD * (high - low))
    return np.asarray(cv2.threshold(image, float(level), 1, cv2.THRESH_BINARY)[1], np.uint8)


@cache
def _roots() -> NDArray[np.float64]:
    """Returns, for each level of the air, the square root of each grey level above it, (256, 256)."""
    levels = np.arange(256.0)
    return np.sqrt(np.maximum(levels - levels[:, None], 0))


def _hull(mask: NDArray[np.uint8]) -> NDArray[np.floating] | None:
    """Returns the convex hull, (n, 2), of a mask's large regions; None if it is too small."""
    opened = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _SQUARE)
    regions = cv2.findContours(opened, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    if not regions:
        return None
    areas = [cv2.contourArea(region) for region in regions]
    least = REGION * max(areas)
    large = [region for region, area in zip(regions, areas, strict=True) if area >= least]
    hull = cv2.convexHull(np.concatenate(large))
    if cv2.contourArea(hull) < MIN_SHARE * mask.size:
        return None
    return hull[:, 0].astype(np.float32)
