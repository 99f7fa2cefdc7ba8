"""Chart of risk against coverage."""

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from brain_ray.evaluation.plots import ACCENT, MUTED, new_figure, tidy
from brain_ray.scoring.selective import RiskCoverage

FEWEST = 20
"""Number of answers from which on the curve is drawn: the share of fewer means nothing."""


def draw(curve: RiskCoverage, allowed: float) -> Figure:
    """Draws the share of wrong answers by the share of images answered, and the share that is allowed."""
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    first = min(FEWEST, len(curve.coverage)) - 1
    axes.plot(curve.coverage[first:], curve.risk[first:], color=ACCENT, lw=1.6)
    top = max(1.25 * curve.risk[first:].max(), 1.4 * allowed, 0.01)
    axes.axhline(allowed, color=MUTED, lw=1, ls=(0, (4, 3)))
    axes.text(0.01, allowed + 0.015 * top, f"allowed: {allowed:.1%}", color=MUTED, fontsize=8.5, va="bottom")
    axes.set(xlim=(0, 1.005), ylim=(0, top))
    axes.set_title(f"area {curve.area:.4f}", fontsize=9, color=MUTED, loc="right")
    axes.set_xlabel("share of the images that are answered", fontsize=9, color=MUTED)
    axes.set_ylabel("share of wrong answers", fontsize=9, color=MUTED)
    tidy(axes, grid="both")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))
    return figure
