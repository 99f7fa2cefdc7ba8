"""Chart of the report: accuracy and decisions against the severity of each artefact."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from brain_ray.evaluation.plots import ACCENT, INK, MUTED, RULE, WIDTH, add_legend, new_figure
from brain_ray.scoring.robustness import ConditionScores, Robustness, Share

WRONG = "#d55e00"
"""Colour of wrong answers: Okabe and Ito's vermilion."""

COLUMNS = 6
"""Panels side by side."""


def robustness_curves(scores: Robustness) -> Figure:
    """Draws a panel for each artefact: accuracy with its interval, the share answered and the share of wrong
    answers, at severity 0 (none) to 5."""
    rows = -(-len(scores.artefacts) // COLUMNS)
    figure = new_figure(WIDTH, 0.6 + 1.55 * rows)
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel()
    handles: dict[str, Line2D] = {}
    for axes, (name, one) in zip(panels, scores.artefacts.items(), strict=False):
        points = [scores.clean, *one.severities]
        places = np.arange(len(points))
        low, high = (_values([getattr(point.accuracy, end) for point in points]) for end in ("low", "high"))
        axes.fill_between(places, low, high, color=ACCENT, alpha=0.18, lw=0)
        lines = {
            "accuracy, with its 95 % interval": (_shares(points, "accuracy"), ACCENT, "-"),
            "images answered": (_values([point.answered / point.images for point in points]), MUTED, ":"),
            "answers wrong": (_shares(points, "error"), WRONG, "--"),
        }
        for title, (values, colour, dashes) in lines.items():
            (handles[title],) = axes.plot(places, values, dashes, color=colour, lw=1.5, marker="o", ms=2.5)
        axes.set_title(name.replace("_", " "), fontsize=8.5, color=INK, loc="left")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(RULE)
        axes.tick_params(length=0, labelsize=7.5, labelcolor=INK)
        axes.grid(color=RULE, lw=0.6)
        axes.set_xticks(places)
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    for axes in panels[len(scores.artefacts) :]:
        axes.set_visible(False)
    figure.supxlabel("severity; 0: no artefact", fontsize=8.5, color=MUTED)
    add_legend(figure, handles)
    return figure


def _shares(points: list[ConditionScores], name: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    shares: list[Share] = [getattr(point, name) for point in points]
    return _values([share.value for share in shares])


def _values(values: list[float | None]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([np.nan if value is None else value for value in values], np.float64)
