"""Alignment: where in a network's input the cells of its last feature map lie.

Strided convolutions pad an even side at its end only (TensorFlow's `same`, and the padding of
keras.applications' EfficientNets), and others at its beginning (ResNet50): so the middle of the map need not
look at the middle of the image. The centre of a cell's receptive field follows from the layers' strides,
kernels and paddings (Araujo et al. 2019, doi.org/10.23915/distill.00021).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import keras


@dataclass(frozen=True)
class Cells:
    """Centres of a map's cells along one axis, in pixels of the input: cell i is at stride * i + first."""

    stride: float = 1.0
    first: float = 0.0

    def then(self, stride: float, first: float) -> "Cells":
        """Returns the cells of the next map, whose cell i is at stride * i + first on this one."""
        return Cells(self.stride * stride, self.stride * first + self.first)


def map_shift(network: "keras.Model") -> tuple[float, float]:
    """Returns how far the middle of the backbone's last feature map looks below and to the right of the
    middle of the image, in pixels of the network's input.

    Args:
        network: of `build_network`.
    """
    backbone = network.get_layer("backbone")
    rows, columns = _walk(backbone, (Cells(), Cells()))
    height, width = backbone.inputs[0].shape[1:3]
    last = backbone.outputs[0].shape[1:3]
    down, right = (
        cells.stride * (number - 1) / 2 + cells.first - (size - 1) / 2
        for cells, number, size in zip((rows, columns), last, (height, width), strict=True)
    )
    return down, right


def _walk(model: "keras.Model", start: tuple[Cells, Cells]) -> tuple[Cells, Cells]:
    """Returns the cells of a model's output, whose input has those of `start`."""
    import keras

    if isinstance(model, keras.Sequential):
        for layer in model.layers:
            start = _after(layer, start, layer.input.shape[1:3])
        return start
    known = {id(model.inputs[0]): start}
    for operation in model.operations:
        inputs = [tensor for tensor in _list(operation.input) if id(tensor) in known]
        if not inputs:
            continue
        # Of a map and what it is multiplied with, one number a channel, the map has the cells.
        largest = max(inputs, key=lambda tensor: int(np.prod(tensor.shape[1:3])))
        for output in _list(operation.output):
            if len(output.shape) == 4:
                known[id(output)] = _after(operation, known[id(largest)], largest.shape[1:3])
    return known[id(model.outputs[0])]


def _after(operation: Any, cells: tuple[Cells, Cells], sides: Iterable[int]) -> tuple[Cells, Cells]:
    """Returns the cells after an operation on a map with these sides."""
    import keras

    layers = keras.layers
    if isinstance(operation, keras.Model):
        return _walk(operation, cells)
    if isinstance(operation, layers.ZeroPadding2D):
        (top, _), (left, _) = operation.padding
        return cells[0].then(1, -top), cells[1].then(1, -left)
    if isinstance(operation, (layers.Conv2D, layers.DepthwiseConv2D)):
        kernel = [
            (k - 1) * d + 1 for k, d in zip(operation.kernel_size, operation.dilation_rate, strict=True)
        ]
    elif isinstance(operation, (layers.MaxPooling2D, layers.AveragePooling2D)):
        kernel = list(operation.pool_size)
    else:
        return cells
    rows, columns = (
        one.then(stride, (size - 1) / 2 - _padded_before(operation.padding, side, size, stride))
        for one, size, stride, side in zip(cells, kernel, operation.strides, sides, strict=True)
    )
    return rows, columns


def _padded_before(padding: str, side: int, kernel: int, stride: int) -> int:
    """Returns the number of pixels that are added at a map's beginning."""
    if padding != "same":
        return 0
    needed = (-(-side // stride) - 1) * stride + kernel - side
    return int(max(needed, 0) // 2)


def _list(tensors: Any) -> list[Any]:
    return list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
