"""Where the cells of a network's last feature map look, held against what the input's pixels do to them."""

import numpy as np
import pytest

from brain_ray.config import ModelConfig
from brain_ray.models.alignment import Cells, map_shift
from brain_ray.models.network import build_network


def test_cells_of_a_map_of_a_map() -> None:
    """Windows three wide, two apart, that begin at the first pixel: centres 1, 3, 5; of theirs 3, 7, 11."""
    once = Cells().then(2, 1)
    assert once == Cells(2, 1)
    assert once.then(2, 1) == Cells(4, 3)


@pytest.mark.parametrize(
    ("backbone", "side", "expected"),
    [
        ("tiny", (96, 64), (15.5, 15.5)),
        ("EfficientNetB0", (160, 160), (15.5, 15.5)),
        ("MobileNetV3Small", (96, 96), (15.5, 15.5)),
        ("ResNet50", (64, 64), (-15.5, -15.5)),
        ("ConvNeXtTiny", (64, 64), (0, 0)),
    ],
)
def test_shift_of_each_way_of_padding(
    backbone: str, side: tuple[int, int], expected: tuple[float, float]
) -> None:
    config = ModelConfig(backbone=backbone, height=side[0], width=side[1], weights="none")
    assert map_shift(build_network(config, 3, seed=1)) == expected


@pytest.mark.parametrize(("height", "width"), [(160, 160), (150, 96), (97, 130)])
def test_the_middle_cells_look_where_it_says(height: int, width: int) -> None:
    """With positive weights, the pixels that move a cell have their mean at its centre."""
    import tensorflow as tf

    network = build_network(
        ModelConfig(backbone="tiny", height=height, width=width, weights="none"), 3, seed=1
    )
    backbone = network.get_layer("backbone")
    for weight in backbone.trainable_weights:
        if "kernel" in weight.path:
            weight.assign(np.ones(weight.shape))
    image = tf.Variable(np.full((1, height, width, 3), 200.0, np.float32))
    with tf.GradientTape() as tape:
        cells = backbone(image, training=False)
        rows, columns = cells.shape[1:3]
        middle = slice((rows - 1) // 2, rows // 2 + 1), slice((columns - 1) // 2, columns // 2 + 1)
        score = tf.reduce_sum(cells[0, middle[0], middle[1]])
    moved = np.abs(tape.gradient(score, image).numpy()).sum(axis=(0, 3))
    centre = [
        float((moved.sum(axis=1 - axis) * np.arange(size)).sum() / moved.sum())
        for axis, size in enumerate((height, width))
    ]
    expected = np.array(centre) - (np.array([height, width]) - 1) / 2
    assert map_shift(network) == pytest.approx(tuple(expected), abs=0.01)
