"""Every figure comes out as a PNG of its size, for plain and for odd data."""

import io

import cv2
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from brain_ray.config import CropConfig
from brain_ray.data.copies.placement import TRANSFORMS, reverse, turn
from brain_ray.evaluation import copy_plates, image_plates, plots
from brain_ray.scoring.curves import reliability, roc

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2, 3, 4],
        "loss": [1.2, 0.8, 0.6, 0.5],
        "cross_entropy": [1.1, 0.7, 0.5, 0.4],
        "accuracy": [0.4, 0.6, 0.7, 0.8],
        "val_cross_entropy": [1.0, 0.7, 0.9, 0.6],
        "val_loss": [1.0, 0.7, 0.9, 0.6],
        "val_accuracy": [0.5, 0.7, 0.6, 0.75],
        "best": [1, 1, 0, 1],
        "rolled_back": [0, 0, 1, 0],
    }
)


def blurry_head(height: int = 64, width: int = 60) -> np.ndarray:
    image = np.zeros((height, width), np.uint8)
    cv2.ellipse(image, (width // 2, height // 2), (width // 3, height // 3), 0, 0, 360, 180, -1)
    cv2.circle(image, (width // 3, height // 3), 5, 240, -1)
    return cv2.GaussianBlur(image, (5, 5), 0)


def predictions(num_classes: int, n: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    return np.arange(n) % num_classes, rng.dirichlet(np.ones(num_classes), n)


def error(k: int = 4) -> image_plates.Misclassified:
    return image_plates.Misclassified("Testing/a.jpg", 0, 1, np.full(k, 1 / k), True, blurry_head())


def pair(transform: str, path: str = "Training/glioma/a.jpg") -> copy_plates.CopyPair:
    image = blurry_head()
    second = turn(image, reverse(TRANSFORMS.index(transform)))
    pictures = (
        copy_plates.Picture(path, "glioma", "train", image),
        copy_plates.Picture("Testing/b.jpg", "glioma", "test", second),
    )
    return copy_plates.CopyPair(*pictures, 0.995, transform, "near", "head", "moved by 3.0 %")


def check(figure: Figure, dpi: int = 40) -> np.ndarray:
    """Draw a figure; return its pixels after checking their number and that something is on them."""
    content = plots.to_png(figure, dpi)
    drawn = Image.open(io.BytesIO(content))
    assert drawn.format == "PNG"
    width, height = figure.get_size_inches()
    assert drawn.size == pytest.approx((width * dpi, height * dpi), abs=1)
    pixels = np.asarray(drawn.convert("L"))
    assert pixels[0].min() == 255  # nothing is cut off at the upper edge, and the ground is white
    assert pixels.min() < 200
    return pixels


def texts(figure: Figure) -> str:
    figure.draw_without_rendering()
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    found += [axes.get_title(loc="left") for axes in figure.axes]
    found += [label.get_text() for legend in figure.legends for label in legend.get_texts()]
    return "\n".join(found)


@pytest.mark.parametrize("num_classes", [2, 4, 9])
def test_charts_for_any_number_of_classes(num_classes):
    classes = [f"class {i}" for i in range(num_classes)]
    labels, chances = predictions(num_classes)
    counts = dict.fromkeys(classes, 12)
    check(plots.balance({"Training": counts, "Test": counts}, classes))
    check(plots.confusion({"Test": np.eye(num_classes, dtype=int).tolist()}, classes))
    check(plots.roc_curves(roc(labels, chances, classes)))
    check(image_plates.error_plate([error(num_classes)], classes))


def test_balance_tells_numbers_and_shares():
    found = texts(plots.balance({"Training": {"a": 30, "b": 10}, "Test": {"a": 0}}, ["a", "b"]))
    assert "30  75.0%" in found
    assert "10  25.0%" in found
    assert "Training  40" in found
    assert "Test  0" in found


def test_confusion_tells_counts_and_row_shares_and_marks_empty_rows():
    found = texts(plots.confusion({"Test": [[3, 1], [0, 0]]}, ["a", "b"])).splitlines()
    assert found.count("75.0%") == found.count("25.0%") == 1
    assert found.count("–") == 2


def test_learning_curves_mark_the_best_and_the_rolled_back_epochs():
    figure = plots.learning_curves(HISTORY)
    check(figure)
    assert "best epoch (4)" in texts(figure)
    assert "last epoch (4)" in texts(plots.learning_curves(HISTORY, "last"))
    assert "back to the best weights" in texts(figure)
    assert "penalties" not in texts(figure)
    assert "penalties" in texts(plots.learning_curves(HISTORY.assign(val_loss=HISTORY["val_loss"] + 0.5)))


@pytest.mark.parametrize(
    "rows", [HISTORY.head(1), HISTORY.assign(best=0), HISTORY.assign(cross_entropy=np.nan)]
)
def test_learning_curves_of_odd_runs(rows):
    check(plots.learning_curves(rows))


def test_roc_without_a_class_says_so():
    _, chances = predictions(4)
    found = texts(plots.roc_curves(roc(np.arange(40) % 3, chances, CLASSES)))
    assert "pituitary: no AUC" in found
    check(plots.roc_curves(roc(np.zeros(40, int), chances, CLASSES)))


def test_reliability_diagram_of_few_images():
    labels, chances = predictions(4, n=3)
    check(
        plots.reliability_diagram(
            {"raw": reliability(labels, chances), "calibrated": reliability(labels, chances)}
        )
    )


@pytest.mark.parametrize("count", [1, 7, 25, 30])
def test_sample_grid_shows_25_at_most(count):
    samples = [image_plates.LabelledImage(blurry_head(), CLASSES[i % 4]) for i in range(count)]
    figure = image_plates.sample_grid(samples, CLASSES)
    check(figure)
    assert sum(bool(axes.images) for axes in figure.axes) == min(count, 25)


def test_crop_steps_show_original_mask_contour_and_crop():
    image = blurry_head()
    figure = image_plates.crop_steps([image_plates.LabelledImage(image, "glioma")], CLASSES, CropConfig())
    check(figure)
    original, mask, outlined, cropped = (np.asarray(axes.images[0].get_array()) for axes in figure.axes)
    assert (original == image).all()
    assert set(np.unique(mask)) == {0, 255}
    assert len(figure.axes[2].lines) == 2  # the contour and its extreme points
    assert (outlined == image).all()
    assert cropped.size < image.size


def test_crop_steps_of_a_blank_image_keep_all_of_it():
    blank = np.zeros((40, 50), np.uint8)
    figure = image_plates.crop_steps([image_plates.LabelledImage(blank, "glioma")], CLASSES, CropConfig())
    check(figure)
    assert np.asarray(figure.axes[3].images[0].get_array()).shape == (40, 50)


def test_plates_without_errors_and_pairs_say_so():
    check(image_plates.error_plate([], CLASSES))
    check(copy_plates.pair_plate([]))
    assert copy_plates.pair_plate([]).texts[0].get_text() == "no copies were found"


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_second_image_of_a_pair_is_shown_turned_back(transform):
    figure = copy_plates.pair_plate([pair(transform)])
    check(figure)
    first, second, back = (np.asarray(axes.images[0].get_array()) for axes in figure.axes[:3])
    assert (first == back).all()
    assert np.array_equal(second, first) == (transform == "identity")


def test_a_pair_is_described_beside_its_images():
    figure = copy_plates.pair_plate([pair("mirrored")])
    (text,) = figure.axes[3].texts
    for told in ("mirrored", "near", "similarity 0.9950", "heads alike", "moved by 3.0 %", "train, glioma"):
        assert told in text.get_text().split("\n")


def test_dollar_signs_of_users_are_no_formulas():
    figure = copy_plates.pair_plate([pair("mirrored", path=r"Training/$\frac$/a.jpg")])
    check(figure)
    check(plots.confusion({"$x_$": [[1, 0], [0, 1]]}, ["$a_$", "$b^$"]))


def test_jpeg_is_shrunk_but_never_enlarged():
    sizes = {(400, 300): (160, 120), (90, 60): (90, 60), (1000, 2): (160, 1)}
    for shape, expected in sizes.items():
        content = image_plates.to_jpeg(np.full(shape, 90, np.uint8), side=160)
        assert cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_GRAYSCALE).shape == expected


def test_classes_keep_their_colours_and_no_setting_leaks():
    before = dict(mpl.rcParams)
    figure = plots.balance({"Test": dict.fromkeys(CLASSES, 5)}, CLASSES)
    colours = [bar.get_facecolor() for bar in figure.axes[0].patches]
    assert colours == [mpl.colors.to_rgba(plots.class_colour(i)) for i in range(4)]
    assert len(set(colours)) == 4
    check(figure)
    assert dict(mpl.rcParams) == before
