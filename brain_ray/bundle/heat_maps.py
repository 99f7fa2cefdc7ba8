"""Heat maps: from a network's feature map back to the crop and to the image that it was made of."""

from collections.abc import Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.data.transforms import Box, fitted_box
from brain_ray.input_spec import InputSpec

Floats = NDArray[np.float32]
Shift = tuple[float, float]

MAP_SHIFT = "map_shift"
"""Name of the shift in the metadata of a bundle's explain.onnx; bundles of earlier versions have none."""


def shift_text(shift: Shift) -> str:
    """Encodes `models.alignment.map_shift` for the metadata."""
    return f"{shift[0]:g} {shift[1]:g}"


def shift_of(metadata: Mapping[str, str]) -> Shift:
    """Decodes it; of an earlier version's bundle nothing is known, and nothing is shifted."""
    down, right = map(float, metadata.get(MAP_SHIFT, "0 0").split())
    return down, right


def over_crop(heat: Floats, spec: InputSpec, shape: tuple[int, ...], shift: Shift = (0, 0)) -> Floats:
    """Spreads a heat map over the crop of an image, by cubic interpolation.

    Args:
        heat: (rows, columns) of a feature map that covers the network's input.
        spec: the network's input, to which the crop was fitted.
        shape: height and width of the crop in pixels.
        shift: how far the middle of the map looks below and to the right of the middle of the input, in
            pixels of the input; what this uncovers repeats the cells at the edge.

    Returns:
        float32 (height, width), at least 0; between the cells it may be a little above their maximum.
    """
    height, width = shape[:2]
    if any(shift) or spec.fit == "pad":
        heat = _resize(heat, spec.height, spec.width)
    if any(shift):
        move = np.array([[1, 0, shift[1]], [0, 1, shift[0]]], np.float32)
        size = spec.width, spec.height
        heat = np.asarray(cv2.warpAffine(heat, move, size, borderMode=cv2.BORDER_REPLICATE), np.float32)
    if spec.fit == "pad":  # the crop covers a part of the input only
        inner = fitted_box(spec.crop_size or shape, spec.height, spec.width)
        heat = heat[inner.rows, inner.columns]
    return np.maximum(_resize(heat, height, width), 0)


def over_image(
    heat: Floats, spec: InputSpec, box: Box, shape: tuple[int, ...], shift: Shift = (0, 0)
) -> Floats:
    """Spreads a heat map over the image that was cropped to `box`: float32 of this (height, width), 0
    outside the box, of which the network saw nothing."""
    whole = np.zeros(shape[:2], np.float32)
    whole[box.rows, box.columns] = over_crop(heat, spec, (box.bottom - box.top, box.right - box.left), shift)
    return whole


def _resize(heat: Floats, height: int, width: int) -> Floats:
    return np.asarray(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)
