"""Plates of images in the report: network inputs, crop steps, errors."""

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


def shrink(image: Grey, side: int) -> Grey:
    """Shrinks a (height, width) uint8 image (never enlarges it) so that its longer side has at most `side`
    pixels."""
    scale = side / max(image.shape)
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def to_jpeg(image: Grey, side: int = 160) -> bytes:
    """Encodes a (height, width) uint8 image as JPEG, shrunk so that its longer side has at most `side`
    pixels."""
    return bytes(cv2.imencode(".jpg", shrink(image, side), [cv2.IMWRITE_JPEG_QUALITY, 85])[1])


def sample_grid(samples: Sequence[LabelledImage], classes: Sequence[str]) -> Figure:
    """Draws the first 25 images with their labels, five in a row."""
    shown = samples[:25]
    rows = max(1, -(-len(shown) // 5))
    figure = new_figure(8.0, 1.78 * rows)
    panels = new_panels(figure, rows, 5)
    for axes, sample in zip(panels.ravel(), shown, strict=False):
        show(axes, sample.image)
        place = {"xy": (0, 1.04), "xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 9}
        axes.annotate("■", xytext=(0, 0), color=_colour(sample.class_name, classes), **place)
        axes.annotate(plain(sample.class_name), xytext=(12, 0), color=INK, **place)
    return figure


def crop_steps(examples: Sequence[LabelledImage], classes: Sequence[str], crop: CropConfig) -> Figure:
    """Draws the four steps of the crop, one row per image: original, mask, contour with box, crop."""
    figure = new_figure(WIDTH, 0.3 + 2.35 * max(1, len(examples)))
    panels = new_panels(figure, max(1, len(examples)), 4)
    for axes, step in zip(panels[0], _STEPS, strict=True):
        axes.set_title(step, fontsize=10, color=INK, loc="left")
    for row, example in zip(panels, examples, strict=False):
        image = example.image
        contour, box = find_contour(image, crop), find_box(image, crop) or Box.whole(image)
        steps = (image, head_mask(image, crop), image, box.crop(image))
        for axes, picture in zip(row, steps, strict=True):
            show(axes, picture)
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
    panels = new_panels(figure, rows, 2 * columns, widths=(1, 1.5) * columns)
    if not shown:
        note(figure, "no image was misclassified")
    for picture, bars, error in zip(panels[:, ::2].ravel(), panels[:, 1::2].ravel(), shown, strict=False):
        show(picture, error.image)
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


def new_panels(figure: Figure, rows: int, columns: int, widths: Sequence[float] | None = None) -> Any:
    """Returns (rows, columns) axes without frames, for images and texts."""
    panels = figure.subplots(rows, columns, squeeze=False, width_ratios=widths)
    for axes in panels.ravel():
        axes.set(xticks=[], yticks=[])  # ticks cost time to lay out, even if none is drawn
        axes.axis("off")
    return panels


def show(axes: Axes, image: Grey) -> None:
    """Draws a (height, width) uint8 image as it is."""
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


def note(figure: Figure, text: str) -> None:
    """Writes a text into the middle of an empty figure."""
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=10, color=MUTED)
