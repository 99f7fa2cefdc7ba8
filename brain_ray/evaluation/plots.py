"""Charts of the report: functions from data to a matplotlib Figure, without global state."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from brain_ray.scoring.curves import Curve, Floats, Reliability, RocCurves

INK, MUTED, RULE = "#1f2933", "#5f6b7a", "#d9dee5"
ACCENT = "#0072b2"
WIDTH = 9.6
"""Width of a full-width figure, in inches."""

# Okabe and Ito's colours (https://jfly.uni-koeln.de/color/), which colour-blind readers can tell apart.
_CLASS_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f7f7f")


def class_colour(index: int) -> str:
    """Returns the colour of a class, the same everywhere in the report; after eight classes they repeat."""
    return _CLASS_COLOURS[index % len(_CLASS_COLOURS)]


def to_png(figure: Figure, dpi: int = 160) -> bytes:
    """Draws a figure as PNG; its size in pixels is that in inches times `dpi`."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty white figure, `width` x `height` inches, whose parts are laid out without overlap."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.03, hspace=0.05)  # type: ignore[union-attr,call-arg]
    return figure


def plain(text: str) -> str:
    """Returns text from users, escaped so that matplotlib reads no formula in a pair of $."""
    return text.replace("$", r"\$")


def balance(splits: Mapping[str, Mapping[str, int]], classes: Sequence[str]) -> Figure:
    """Draws the number and share of each class as bars, one panel per split; `splits` is {title: {class:
    n}}."""
    figure = new_figure(WIDTH, 0.75 + 0.34 * len(classes))
    panels = figure.subplots(1, len(splits), sharey=True, sharex=True, squeeze=False)[0]
    for axes, (title, counts) in zip(panels, splits.items(), strict=True):
        numbers = np.array([counts.get(name, 0) for name in classes])
        shares = numbers / max(1, numbers.sum())
        axes.barh(
            range(len(classes)), shares, height=0.66, color=[class_colour(i) for i in range(len(classes))]
        )
        for place, (number, share) in enumerate(zip(numbers, shares, strict=True)):
            axes.text(share, place, f" {number:,}  {share:.1%}", va="center", fontsize=8.5, color=INK)
        axes.set_title(f"{plain(title)}  {numbers.sum():,}", fontsize=10, color=INK, loc="left")
        axes.set_yticks(range(len(classes)), [plain(name) for name in classes])
        tidy(axes, grid=None)
        axes.spines["bottom"].set_visible(False)
        axes.tick_params(bottom=False, labelbottom=False, left=False)
    widest = max(bar.get_width() for axes in panels for bar in axes.patches)
    panels[0].set_xlim(0, max(widest, 0.01) * 1.75)  # room for the numbers beside the longest bar
    panels[0].invert_yaxis()
    return figure


def learning_curves(history: pd.DataFrame, kept: str = "best") -> Figure:
    """Draws accuracy and loss per epoch for training and validation, from the rows of history.csv.

    The epoch that was kept, the last one with best = 1, is marked, as the `kept` one of `train.keep_epoch`;
    so are the epochs after which training went back to the best weights. Both losses are the cross-entropy
    alone, so that they can be compared (training images are augmented, and dropout is on); the validation
    loss with the head's penalties is drawn too, if it differs.
    """
    figure = new_figure(WIDTH, 3.7)
    panels = figure.subplots(1, 2)
    lines = [
        (panels[0], "accuracy", "training", MUTED, "-"),
        (panels[0], "val_accuracy", "validation", ACCENT, "-"),
        (panels[1], "cross_entropy", "training", MUTED, "-"),
        (panels[1], "val_cross_entropy", "validation", ACCENT, "-"),
    ]
    if not np.allclose(history["val_loss"], history["val_cross_entropy"], equal_nan=True):
        lines.append((panels[1], "val_loss", "validation, with the penalties", ACCENT, ":"))
    handles: dict[str, Line2D] = {}
    for axes, column, label, colour, dashes in lines:
        (handles[label],) = axes.plot(
            history["epoch"], history[column], dashes, color=colour, lw=1.8, marker="o", ms=3.5
        )
    back = history[history["rolled_back"] == 1]
    best = history[history["best"] == 1].tail(1)
    for axes, watched, title in (
        (panels[0], "val_accuracy", "Accuracy"),
        (panels[1], "val_cross_entropy", "Cross-entropy"),
    ):
        if len(back):
            (handles["back to the best weights after this epoch"],) = axes.plot(
                back["epoch"], back[watched], "o", ms=8.5, mfc="none", mec="#d55e00", mew=1.4
            )
        for epoch, value in zip(best["epoch"], best[watched], strict=True):
            axes.axvline(epoch, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=0)
            (handles[f"{kept} epoch ({epoch})"],) = axes.plot(
                epoch, value, "*", ms=13, color=INK, mec="white"
            )
        axes.set_title(title, fontsize=10.5, color=INK, loc="left")
        axes.set_xlabel("epoch", fontsize=9, color=MUTED)
        tidy(axes, grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.margins(y=0.1)
    add_legend(figure, handles)
    return figure


def confusion(matrices: Mapping[str, Sequence[Sequence[int]]], classes: Sequence[str]) -> Figure:
    """Draws counts and row percentages, a panel per {title: matrix}; rows are true, columns predicted
    classes."""
    side = min(4.8, 1.6 + 0.7 * len(classes))
    figure = new_figure(side * len(matrices), side)
    panels = figure.subplots(1, len(matrices), squeeze=False)[0]
    names = [plain(name) for name in classes]
    for axes, (title, matrix) in zip(panels, matrices.items(), strict=True):
        counts = np.asarray(matrix)
        totals = counts.sum(axis=1, keepdims=True)
        shares = counts / np.maximum(totals, 1)
        # A square root, so that a few errors among hundreds of right answers still have a colour.
        axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1.15)
        for row, column in np.ndindex(*counts.shape):
            colour = "white" if shares[row, column] > 0.5 else INK if counts[row, column] else MUTED
            share = f"{shares[row, column]:.1%}" if totals[row, 0] else "–"
            style: dict[str, Any] = {"ha": "center", "va": "center", "color": colour}
            axes.text(column, row - 0.12, f"{counts[row, column]:,}", fontsize=11, **style)
            axes.text(column, row + 0.2, share, fontsize=7.5, **style)
        axes.set_title(plain(title), fontsize=10.5, color=INK, loc="left")
        axes.set_xticks(range(len(names)), names, rotation=20 if len(names) > 2 else 0)
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("predicted", fontsize=9, color=MUTED)
        axes.set_ylabel("true", fontsize=9, color=MUTED)
        axes.tick_params(length=0, labelsize=9, labelcolor=INK)
        axes.set_xticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(names) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", lw=2)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
    return figure


def roc_curves(curves: RocCurves) -> Figure:
    """Draws the ROC curve of each class with its AUC, micro and macro averages, and the upper left corner
    enlarged."""
    figure = new_figure(WIDTH, 4.6)
    panels = figure.subplots(1, 2)
    styles: list[tuple[str, Curve | None, dict[str, Any]]] = [
        (plain(name), curve, {"color": class_colour(i), "lw": 1.8})
        for i, (name, curve) in enumerate(curves.per_class.items())
    ]
    styles.append(("micro average", curves.micro, {"color": INK, "lw": 1.4, "ls": (0, (5, 2))}))
    styles.append(("macro average", curves.macro, {"color": INK, "lw": 1.4, "ls": (0, (1, 1.5))}))
    handles: dict[str, Line2D] = {}
    titles = ("One class against the rest", "Upper left corner, enlarged")
    for axes, title in zip(panels, titles, strict=True):
        axes.plot([0, 1], [0, 1], color=RULE, lw=1)
        for name, curve, style in styles:
            if curve is None:
                handles[f"{name}: no AUC"] = Line2D([], [], **style)
            else:
                (handles[f"{name}  {curve.auc:.4f}"],) = axes.plot(curve.fpr, curve.tpr, **style)
        axes.set_title(title, fontsize=10.5, color=INK, loc="left")
        axes.set_xlabel("false positive rate", fontsize=9, color=MUTED)
        axes.set_ylabel("true positive rate", fontsize=9, color=MUTED)
        tidy(axes, grid="both")
        axes.set_box_aspect(1)
    panels[0].set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    panels[1].set(xlim=(-0.004, 0.2), ylim=(0.8, 1.004))
    add_legend(figure, handles, columns=4)
    return figure


def reliability_diagram(tables: Mapping[str, Reliability]) -> Figure:
    """Draws accuracy against confidence for {title: table}, such as raw and calibrated, above a histogram."""
    figure = new_figure(6.4, 5.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    top.plot([0, 1], [0, 1], color=MUTED, lw=1, ls=(0, (4, 3)))
    top.text(0.05, 0.09, "perfectly calibrated", color=MUTED, fontsize=8.5, rotation=33, va="bottom")
    handles: dict[str, Line2D] = {}
    for index, (title, table) in enumerate(tables.items()):
        colour, marker = ((MUTED, "s"), (ACCENT, "o"))[index % 2]
        filled = table.counts > 0
        (handles[plain(title)],) = top.plot(
            table.confidence[filled], table.accuracy[filled], marker, ls="-", color=colour, lw=1.2, ms=4
        )
        # The area of a point shows the weight of its bin: points of a few images scatter and mean little.
        top.scatter(
            table.confidence[filled],
            table.accuracy[filled],
            s=16 + 500 * _shares(table)[filled],
            color=colour,
            marker=marker,
            alpha=0.45,
            lw=0,
            clip_on=False,
            zorder=3,
        )
        bottom.stairs(_shares(table), table.edges, color=colour, lw=1.6, fill=False)
        bottom.stairs(_shares(table), table.edges, color=colour, alpha=0.18, fill=True)
    top.set_ylabel("accuracy", fontsize=9, color=MUTED)
    bottom.set_ylabel("share of images", fontsize=9, color=MUTED)
    bottom.set_xlabel("confidence: probability of the predicted class", fontsize=9, color=MUTED)
    top.set(xlim=(0, 1.005), ylim=(0, 1.02))
    bottom.set_ylim(0, 1.02)
    for axes in (top, bottom):
        tidy(axes, grid="both")
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    bottom.set_yticks([0, 0.5, 1])
    bottom.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    add_legend(figure, handles)
    return figure


def _shares(table: Reliability) -> Floats:
    return np.asarray(table.counts, np.float64) / max(1, int(table.counts.sum()))


def tidy(axes: Axes, grid: str | None) -> None:
    """Removes frames and ticks, and draws a grid along `grid`: x, y, both or None."""
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.set_axisbelow(True)
    if grid in ("x", "y", "both"):
        axes.grid(axis=grid, color=RULE, lw=0.7)  # type: ignore[arg-type]


def add_legend(figure: Figure, handles: Mapping[str, Line2D], columns: int = 5) -> None:
    figure.legend(
        handles.values(),
        handles.keys(),
        loc="outside lower center",
        ncols=min(columns, len(handles)),
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
