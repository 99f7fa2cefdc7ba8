"""Placement of names beside the points of a chart, where they cover nothing."""

import math
from collections.abc import Sequence
from itertools import pairwise, product
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from brain_ray.evaluation.plots import INK, MUTED, plain


def write_labels(
    axes: Axes, points: Any, texts: Sequence[str], bars: Sequence[tuple[float, float]], front: Any
) -> None:
    """Writes a name beside each point, at the nearest position free of marks, lines and other names.

    Args:
        axes: axes whose scales, limits and layout are final.
        points: (n, 2), positions of the points.
        texts: names of the points.
        bars: both ends of each point's vertical bar.
        front: the points of a step line.
    """
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]
    to_points = 72 / axes.figure.dpi
    dots = axes.transData.transform(points) * to_points
    inside = Bbox(axes.get_window_extent().get_points() * to_points)
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in dots]
    for (x, _), (low, high) in zip(points, bars, strict=True):
        ends = axes.transData.transform([(x, low), (x, high)]) * to_points
        taken.append(Bbox.from_bounds(ends[0, 0] - 2, ends[0, 1], 4, ends[1, 1] - ends[0, 1]))
    steps = axes.transData.transform(front) * to_points
    for (x, y), (next_x, next_y) in pairwise(steps):
        taken += [
            Bbox.from_extents(x, y - 1, next_x, y + 1),
            Bbox.from_extents(next_x - 1, y, next_x + 1, next_y),
        ]
    angles = np.radians((20, -20, 160, -160, 50, -50, 130, -130, 80, -80, 100, -100))
    for point, dot, text in zip(points, dots, texts, strict=True):
        size = np.array([4.9 * len(text) + 2, 11.0])  # of Matplotlib's own font at 8.5 points
        for radius, angle in product(range(12, 150, 9), angles):
            shift = radius * np.array([math.cos(angle), math.sin(angle)])
            corner = dot + shift - size * (shift[0] < 0, 0.5)
            box = Bbox([corner, corner + size])
            free = (corner >= inside.min).all() and (corner + size <= inside.max).all()
            if free and not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        style: dict[str, Any] = {"fontsize": 8.5, "color": INK, "va": "center", "zorder": 5}
        style["ha"] = "right" if shift[0] < 0 else "left"
        if radius > 21:
            style["arrowprops"] = {"arrowstyle": "-", "color": MUTED, "lw": 0.6, "shrinkA": 0, "shrinkB": 6}
        note = axes.annotate(plain(text), point, tuple(shift), textcoords="offset points", **style)
        note.set_in_layout(False)
