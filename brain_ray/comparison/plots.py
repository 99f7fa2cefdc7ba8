"""Charts of a sweep: functions from data to a matplotlib Figure, without global state."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

from brain_ray.comparison.label_placement import write_labels
from brain_ray.comparison.results import Comparison, ModelResult
from brain_ray.evaluation.plots import (
    INK,
    MUTED,
    WIDTH,
    add_legend,
    class_colour,
    new_figure,
    plain,
    tidy,
)

WRONG = "#d55e00"
MAX_LEGEND = 11
"""Largest number of models in a legend; further ones are counted."""


def validation_curves(comparison: Comparison) -> Figure | None:
    """Draws the validation cross-entropy of all trials by epoch; returns None if no trial has a finite one.

    Trials that were stopped are dashed and faded and end in a square; failed trials end in a cross.
    """
    record, models = comparison.record, comparison.models
    figure = new_figure(WIDTH, 4.6)
    axes = figure.subplots()
    ends = {"stopped": "s", "failed": "x"}
    seen: list[float] = []
    handles: dict[str, Line2D] = {}
    for one in record.trials:
        points = [(past.epoch, past.val_cross_entropy, past.best) for past in one.history]
        points = [point for point in points if math.isfinite(point[1]) and point[1] > 0]
        if not points:
            continue
        epochs, values, best = zip(*points, strict=True)
        seen += values
        chosen = one.trial.id == comparison.winner
        whole = one.status not in ends
        style: dict[str, Any] = {
            "color": comparison.model(one.trial.model).colour,
            "lw": 2.8 if chosen else 1.4,
            "ls": "-" if whole else (0, (3, 1.5)),
            "alpha": 1.0 if chosen else 0.85 if whole else 0.5,
            "zorder": 4 if chosen else 3 if whole else 2,
        }
        axes.plot(epochs, values, marker="o" if len(values) == 1 and whole else None, ms=4, **style)
        if not whole:
            axes.plot(
                epochs[-1],
                values[-1],
                ends[one.status],
                ms=4 if one.status == "stopped" else 7,
                mew=1.6,
                color=style["color"],
                zorder=3,
            )
        if chosen and any(best):
            at = max(index for index, flag in enumerate(best) if flag)
            axes.plot(epochs[at], values[at], "*", ms=15, color=INK, mec="white", zorder=6)
    if not seen:
        return None
    for model in models[:MAX_LEGEND]:
        count = sum(row.model == model.model for row in comparison.rows)
        handles[plain(f"{model.short_name} ({count})")] = Line2D([], [], color=model.colour, lw=2.2)
    if len(models) > MAX_LEGEND:
        handles[f"and {len(models) - MAX_LEGEND} more"] = Line2D([], [], lw=0)
    handles["chosen, its kept epoch"] = Line2D([], [], lw=0, marker="*", ms=12, mfc=INK, mec="white")
    for status, marker in ends.items():
        if any(one.status == status and one.history for one in record.trials):
            handles[status] = Line2D([], [], color=MUTED, ls=(0, (3, 1.5)), marker=marker, ms=5)
    axes.set_xlabel("epoch", fontsize=9, color=MUTED)
    axes.set_ylabel("validation cross-entropy", fontsize=9, color=MUTED)
    tidy(axes, grid="y")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    _value_scale(axes, seen)
    add_legend(figure, handles, columns=4)
    return figure


def accuracy_by_latency(comparison: Comparison) -> Figure | None:
    """Draws the accuracy of each model's best trial over its latency, and the models that no other beats in
    both.

    The bars are 95 % intervals, over groups of images. Returns None if no contender's latency is known.
    """
    found = [
        (model, comparison.row(model.trial), model.latency_ms)
        for model in comparison.models
        if model.trial is not None and math.isfinite(model.latency_ms)
    ]
    if not found:
        return None
    points = np.array([(latency, row.accuracy) for _, row, latency in found], np.float64)
    figure = new_figure(WIDTH, 4.8)
    axes = figure.subplots()
    front = sorted(
        (x, y) for x, y in points if not any((a <= x and b >= y) and (a < x or b > y) for a, b in points)
    )
    front.append((points[:, 0].max(), front[-1][1]))
    if len(points) > 1:
        axes.plot(
            *zip(*front, strict=True), color=INK, lw=1.2, ls=(0, (5, 2)), drawstyle="steps-post", zorder=1
        )
    for (model, row, latency), (_, accuracy) in zip(found, points, strict=True):
        assert row.accuracy_low is not None
        assert row.accuracy_high is not None
        reach = [[accuracy - row.accuracy_low], [row.accuracy_high - accuracy]]
        colour = model.colour
        axes.errorbar(latency, accuracy, yerr=reach, color=colour, lw=1.2, capsize=2.5, alpha=0.55, zorder=2)
        axes.plot(latency, accuracy, "o", ms=9 if _is_near(model) else 7, color=colour, zorder=3,
                  mfc=colour if _is_near(model) else "white", mew=1.8)  # fmt: skip
        if model.chosen:
            axes.plot(latency, accuracy, "o", ms=16, mfc="none", mec=INK, mew=1.6, zorder=3)
    axes.set_xlabel("latency of one image, in ms (ONNX Runtime)", fontsize=9, color=MUTED)
    axes.set_ylabel("validation accuracy", fontsize=9, color=MUTED)
    tidy(axes, grid="both")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if points[:, 0].max() > 4 * points[:, 0].min() > 0:
        _log_ticks(axes, "x", points[:, 0])
    axes.margins(x=0.12 if len(points) > 1 else 0.5, y=0.1)
    handles = {
        "best or within the margin": Line2D([], [], color=MUTED, ls="", marker="o", ms=8),
        "not": Line2D([], [], color=MUTED, ls="", marker="o", ms=7, mfc="white", mew=1.8),
        "chosen": Line2D([], [], color=INK, ls="", marker="o", ms=13, mfc="none", mew=1.6),
        "Pareto front": Line2D([], [], color=INK, lw=1.2, ls=(0, (5, 2))),
    }
    if len(points) == 1:
        handles = {"chosen": handles["chosen"]}
    elif all(_is_near(model) for model, _, _ in found):
        del handles["not"]
    add_legend(figure, handles)
    bars = [(row.accuracy_low or 0.0, row.accuracy_high or 1.0) for _, row, _ in found]
    write_labels(axes, points, [model.short_name for model, _, _ in found], bars, front)
    return figure


def _is_near(model: ModelResult) -> bool:
    return model.verdict in ("best", "within margin")


def rungs(comparison: Comparison) -> Figure | None:
    """Draws the trials that ASHA kept and stopped: a panel for each rung, trials in the order in which they
    reached it.

    Returns None without rungs.
    """
    shown = [rung for rung in comparison.record.rungs if rung.reached]
    values = [one.value for rung in shown for one in rung.reached if math.isfinite(one.value)]
    if not values:
        return None
    figure = new_figure(WIDTH, 3.6)
    ratios = [max(8.0, len(rung.reached)) ** 0.6 for rung in shown]
    panels = figure.subplots(1, len(shown), sharey=True, squeeze=False, width_ratios=ratios)[0]
    for axes, rung in zip(panels, shown, strict=True):
        for place, one in enumerate(rung.reached, 1):
            if not math.isfinite(one.value):
                axes.plot(place, 0.97, "x", color=WRONG, ms=6, mew=1.6, transform=axes.get_xaxis_transform())
                continue
            style = (
                {"mfc": "white", "mec": WRONG}
                if one.stopped
                else {"mfc": class_colour(0), "mec": class_colour(0)}
            )
            axes.plot(place, one.value, "o", ms=6.5, mew=1.6, **style)
        stopped = sum(one.stopped for one in rung.reached)
        axes.set_title(f"epoch {rung.epoch}", fontsize=10, color=INK, loc="left")
        axes.set_xlabel(f"{len(rung.reached) - stopped} kept\n{stopped} stopped", fontsize=8.5, color=MUTED)
        tidy(axes, grid="y")
        axes.set_xlim(0.2, max(4, len(rung.reached)) + 0.8)
        axes.set_xticks([])
        axes.tick_params(which="minor", length=0)
    panels[0].set_ylabel(f"best {comparison.record.config.train.monitor} so far", fontsize=9, color=MUTED)
    _value_scale(panels[0], values)
    handles = {
        "kept": Line2D([], [], ls="", marker="o", ms=6.5, color=class_colour(0)),
        "stopped": Line2D([], [], ls="", marker="o", ms=6.5, mfc="white", mec=WRONG, mew=1.6),
    }
    if len(values) < sum(len(rung.reached) for rung in shown):
        handles["without a finite value"] = Line2D([], [], ls="", marker="x", ms=6, color=WRONG, mew=1.6)
    add_legend(figure, handles)
    return figure


def _value_scale(axes: Axes, values: Sequence[float]) -> None:
    """Sets a log scale if values differ by a large factor, so that one bad trial does not flatten the
    rest."""
    if max(values) > 5 * min(values) > 0:
        _log_ticks(axes, "y", values)


def _log_ticks(axes: Axes, which: str, values: Any) -> None:
    decades = math.log10(max(values) / min(values))
    axes.set(**{f"{which}scale": "log"})
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(
        LogLocator(subs=(1, 2, 3, 5) if decades < 1.2 else (1, 2, 5) if decades < 3 else (1,))
    )
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())
    axis.set_tick_params(which="minor", length=0)
