"""Parallel coordinates: the settings of a sweep's trials and their results."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from brain_ray.comparison.results import Comparison, Row
from brain_ray.evaluation.plots import INK, MUTED, RULE, WIDTH, add_legend, new_figure, plain

CHOSEN = "#e69f00"


def parallel_coordinates(comparison: Comparison) -> Figure | None:
    """Draws parallel coordinates: an axis for each setting that varies, and last the validation
    cross-entropy.

    A trial without a cross-entropy ends before the last axis, in a cross. Returns None if nothing varies.
    """
    rows = comparison.rows
    names = [
        name
        for name in dict.fromkeys(name for row in rows for name in row.changes)
        if len({str(row.changes.get(name)) for row in rows}) > 1
    ]
    known = [row.cross_entropy for row in rows if row.cross_entropy is not None]
    if not names or not known:
        return None
    figure = new_figure(WIDTH, 4.6)
    axes = figure.subplots()
    places = np.column_stack([_axis(axes, at, name, rows) for at, name in enumerate(names)])
    last = len(names)
    log = max(known) > 5 * min(known) > 0
    norm: Normalize = LogNorm(min(known), max(known)) if log else Normalize(min(known), max(known))
    spectrum = mpl.colormaps["viridis"]
    levels = np.unique(
        np.geomspace(min(known), max(known), 5) if log else np.linspace(min(known), max(known), 5)
    )
    _ticks(axes, last, [_on(value, known, log) for value in levels], [f"{value:.3g}" for value in levels])
    order = sorted(range(len(rows)), key=lambda i: -(rows[i].cross_entropy or math.inf))
    for index in order:
        row = rows[index]
        heights = list(places[index])
        style: dict[str, Any] = {"color": RULE, "lw": 1.2, "zorder": 2}
        if row.cross_entropy is not None:
            heights.append(_on(row.cross_entropy, known, log))
            # Its yellow must remain visible on white.
            style = {
                "color": [0.92 * channel for channel in spectrum(float(norm(row.cross_entropy)))[:3]],
                "lw": 1.6,
                "zorder": 3,
            }
        if row.trial == comparison.winner:
            style |= {"lw": 3, "zorder": 5}
            axes.plot(*_smooth(heights), color=CHOSEN, lw=7, zorder=4, solid_capstyle="round")
        axes.plot(*_smooth(heights), alpha=0.95, solid_capstyle="round", **style)
        if row.cross_entropy is None:
            axes.plot(last - 1, heights[-1], "x", color=MUTED, ms=7, mew=1.6, zorder=6)
    shown = [name.rsplit(".", 1)[-1] for name in names]
    labels = [name if shown.count(end) > 1 else end for name, end in zip(names, shown, strict=True)]
    axes.set_xticks(range(last + 1), [*map(plain, labels), "validation\ncross-entropy"])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9 if last < 7 else 7.5, labelcolor=INK, pad=8)
    axes.set_yticks([])
    axes.set(xlim=(-0.13 * last, 1.1 * last), ylim=(-0.04, 1.04))
    axes.spines[:].set_visible(False)
    handles = {"chosen": Line2D([], [], color=CHOSEN, lw=5)}
    if len(known) < len(rows):
        handles["without a result"] = Line2D([], [], color=RULE, lw=1.6, marker="x", mec=MUTED, mew=1.6)
    add_legend(figure, handles)
    return figure


def _axis(axes: Axes, at: int, name: str, rows: Sequence[Row]) -> list[float]:
    """Draws the axis of a setting; returns the height (0..1) of each row."""
    values = [row.changes.get(name) for row in rows]
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        numbers: list[float] = [float(value) for value in values if value is not None]
        log = min(numbers) > 0 and max(numbers) / min(numbers) >= 10
        ticks = np.unique(numbers)
        if len(ticks) > 6:
            spaced = np.geomspace if log else np.linspace
            ticks = spaced(min(numbers), max(numbers), 5)
        _ticks(axes, at, [_on(tick, numbers, log) for tick in ticks], [f"{tick:.3g}" for tick in ticks])
        return [_on(number, numbers, log) for number in numbers]
    texts = ["–" if value is None else str(value) for value in values]
    categories = sorted(set(texts))
    heights = dict(zip(categories, np.linspace(0, 1, len(categories) + 2)[1:-1], strict=True))
    _ticks(axes, at, list(heights.values()), categories)
    return [float(heights[text]) for text in texts]


def _on(value: float, values: Sequence[float], log: bool) -> float:
    low, high = min(values), max(values)
    if low == high:
        return 0.5
    return math.log(value / low) / math.log(high / low) if log else (value - low) / (high - low)


def _ticks(axes: Axes, at: int, heights: Sequence[float], labels: Sequence[str]) -> None:
    axes.plot([at, at], [0, 1], color=MUTED, lw=1, zorder=1)
    size = 8 if len(labels) <= 8 else 6.5
    for height, label in zip(heights, labels, strict=True):
        axes.plot(at, height, "_", color=MUTED, ms=5, mew=1, zorder=6)
        shown = label if len(label) <= 18 else f"{label[:16]}…"
        box = {"boxstyle": "square,pad=0.12", "fc": "white", "alpha": 0.8, "lw": 0}
        style: dict[str, Any] = {"fontsize": size, "color": INK, "va": "center", "bbox": box, "zorder": 7}
        style["ha"] = "left" if at else "right"
        axes.annotate(plain(shown), (at, height), (5 if at else -5, 0), textcoords="offset points", **style)


def _smooth(heights: Sequence[float]) -> tuple[Any, Any]:
    """Returns the x and y of a line that leaves and meets each axis level, so that it can be followed."""
    t = np.linspace(0, 1, 25)
    bend = t * t * (3 - 2 * t)
    if len(heights) == 1:
        return [0.0], list(heights)
    x = np.concatenate([index + t for index in range(len(heights) - 1)])
    y = np.concatenate([a + (b - a) * bend for a, b in pairwise(heights)])
    return x, y
