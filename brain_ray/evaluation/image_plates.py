"""Plates of images in the report: network inputs, crop steps, errors, copies side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.config import CropConfig
from brain_ray.data.transforms import Box, find_box, find_contour, head_mask
from brain_ray.evaluation.plots import INK, MUTED, WIDTH, class_colour, new_figure, plain

_STEPS = ("1  original", "2  brighter than the threshold", "3  contour and its box", "4  crop")


@dataclass(frozen=True)
class LabelledImage:
    """A grey image, (height, width) uint8, and its class."""

    image: Grey
    class_name: str


@dataclass(frozen=True)
class Misclassified:
    """A test image that was misclassified.

    label and predicted: indices into the classes; probabilities: (k,); leak_free: no copy of it was found in
    training or validation; image: the network's input, (height, width) uint8.
    """

    path: str
    label: int
    predicted: int
    probabilities: NDArray[np.floating]
    leak_free: bool
    image: Grey


@dataclass(frozen=True)
class CopyPair:
    """Two files that count as copies: columns of their row in pairs.parquet, and their images, (height,
    width) uint8."""

    path_a: str
    path_b: str
    class_a: str
    class_b: str
    split_a: str
    split_b: str
    similarity: float
    transform: str
    kind: str
    image_a: Grey
    image_b: Grey


def undo_transform(image: Grey, transform: str) -> Grey:
    """Turns the second image of a pair, (height, width) uint8, back, so that it looks like the first.

    Raises:
        ValueError: `transform` is not identity, mirrored, flipped or turned.
    """
    match transform:
        case "identity":
            return image
        case "mirrored":
            return image[:, ::-1]
        case "flipped":
            return image[::-1]
        case "turned":
            return image[::-1, ::-1]
    raise ValueError(f"transform is {transform!r}: expected identity, mirrored, flipped or turned")


def to_jpeg(image: Grey, side: int = 160) -> bytes:
    """Encodes a (height, width) uint8 image as JPEG, shrunk (never enlarged) so that the longer side has at
    most `side` pixels."""
    scale = side / max(image.shape)
    if scale < 1:
        size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def sample_grid(samples: Sequence[LabelledImage], classes: Sequence[str]) -> Figure:
    """Draws the first 25 images with their labels, five in a row."""
    shown = samples[:25]
    rows = max(1, -(-len(shown) // 5))
    figure = new_figure(8.0, 1.78 * rows)
    panels = _panels(figure, rows, 5)
    for axes, sample in zip(panels.ravel(), shown, strict=False):
        _show(axes, sample.image)
        place = {"xy": (0, 1.04), "xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9}
        axes.annotate("■", xytext=(0, 0), color=_colour(sample.class_name, classes), **place)
        axes.annotate(plain(sample.class_name), xytext=(12, 0), color=INK, **place)
    return figure


def crop_steps(examples: Sequence[LabelledImage], classes: Sequence[str], crop: CropConfig) -> Figure:
    """Draws the four steps of the crop, one row per image: original, mask, contour with box, crop."""
    figure = new_figure(WIDTH, 0.3 + 2.35 * max(1, len(examples)))
    panels = _panels(figure, max(1, len(examples)), 4)
    for axes, step in zip(panels[0], _STEPS, strict=True):
        axes.set_title(step, fontsize=10, color=INK, loc="left")
    for row, example in zip(panels, examples, strict=False):
        image = example.image
        contour, box = find_contour(image, crop), find_box(image, crop) or Box.whole(image)
        steps = (image, head_mask(image, crop), image, box.crop(image))
        for axes, picture in zip(row, steps, strict=True):
            _show(axes, picture)
        if contour is not None:
            _outline(row[2], contour.reshape(-1, 2), box)
        row[0].text(
            -0.05,
            0.5,
            plain(example.class_name),
            color=_colour(example.class_name, classes),
            fontsize=9.5,
            rotation=90,
            ha="right",
            va="center",
            transform=row[0].transAxes,
        )
    return figure


def error_plate(errors: Sequence[Misclassified], classes: Sequence[str], limit: int = 12) -> Figure:
    """Draws the first errors, each with true and predicted class and a bar per class's probability."""
    shown = errors[:limit]
    columns = 2
    rows = max(1, -(-len(shown) // columns))
    figure = new_figure(WIDTH, 0.2 + 1.75 * rows)
    panels = _panels(figure, rows, 2 * columns, widths=(1, 1.5) * columns)
    if not shown:
        _note(figure, "no image was misclassified")
    for picture, bars, error in zip(panels[:, ::2].ravel(), panels[:, 1::2].ravel(), shown, strict=False):
        _show(picture, error.image)
        places = range(len(classes))
        bars.barh(places, error.probabilities, color=[class_colour(i) for i in places], height=0.6)
        for place, chance in enumerate(error.probabilities):
            weight = "bold" if place in (error.label, error.predicted) else "normal"
            bars.text(-0.03, place, plain(classes[place]), ha="right", va="center", fontsize=8, weight=weight)
            bars.text(chance + 0.02, place, f"{chance:.1%}", va="center", fontsize=8, color=INK)
        bars.set(xlim=(-0.6, 1.25), ylim=(len(classes) - 0.4, -0.6))
        title = f"{classes[error.label]}, taken for {classes[error.predicted]}"
        bars.set_title(plain(title), fontsize=9, color=INK, loc="left")
    return figure


def pair_plate(pairs: Sequence[CopyPair], limit: int = 6) -> Figure:
    """Draws the first pairs of copies: both images, and the second one turned back to look like the first."""
    shown = pairs[:limit]
    figure = new_figure(WIDTH, 0.2 + 2.35 * max(1, len(shown)))
    panels = _panels(figure, max(1, len(shown)), 4, widths=(1, 1, 1, 1.25))
    if not shown:
        _note(figure, "no copies were found")
    for row, pair in zip(panels, shown, strict=False):
        back = undo_transform(pair.image_b, pair.transform)
        titles = ("first", "second", "second, as it is" if back is pair.image_b else "second, turned back")
        for axes, picture, title in zip(row, (pair.image_a, pair.image_b, back), titles, strict=False):
            _show(axes, picture)
            axes.set_title(title, fontsize=8.5, color=MUTED, loc="left")
        facts = (
            f"{pair.transform}, {pair.kind}\nsimilarity {pair.similarity:.4f}\n\n"
            f"{pair.split_a}, {pair.class_a}\n{_wrapped(pair.path_a)}\n\n"
            f"{pair.split_b}, {pair.class_b}\n{_wrapped(pair.path_b)}"
        )
        row[3].text(0, 1, plain(facts), va="top", fontsize=8.5, color=INK, transform=row[3].transAxes)
    return figure


def _panels(figure: Figure, rows: int, columns: int, widths: Sequence[float] | None = None) -> Any:
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])  # ticks cost time to lay out, even if none is drawn
        axes.axis("off")
    return panels


def _show(axes: Axes, image: Grey) -> None:
    axes.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="antialiased")
    axes.autoscale(False)


def _colour(class_name: str, classes: Sequence[str]) -> str:
    return class_colour(classes.index(class_name)) if class_name in classes else MUTED


def _outline(axes: Axes, points: NDArray[np.int32], box: Box) -> None:
    closed = np.vstack([points, points[:1]])
    axes.plot(closed[:, 0], closed[:, 1], color="#56b4e9", lw=1.4)
    corner, width, height = (box.left - 0.5, box.top - 0.5), box.right - box.left, box.bottom - box.top
    axes.add_patch(Rectangle(corner, width, height, fill=False, ec="#e69f00", lw=1.4))
    x, y = points.T
    extremes = points[[x.argmin(), x.argmax(), y.argmin(), y.argmax()]]
    axes.plot(extremes[:, 0], extremes[:, 1], "o", color="#d55e00", ms=5, mec="white", mew=0.8)


def _note(figure: Figure, text: str) -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, color=MUTED)


def _wrapped(path: str, width: int = 34) -> str:
    return "\n".join(path[i : i + width] for i in range(0, len(path), width))
