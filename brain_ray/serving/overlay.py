"""Overlay: draws a heat map over the crop of an image."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.bundle.heat_maps import Shift, over_crop
from brain_ray.input_spec import InputSpec

OPACITY = 0.55
"""Opacity of the heat map at its maximum, in the overlay."""

MAX_SIDE = 512
"""Longest side, in pixels, of a displayed crop; longer ones are shrunk."""


def draw_overlay(
    crop: Grey, heat: NDArray[np.float32], spec: InputSpec, shift: Shift
) -> tuple[bytes, bytes, bytes]:
    """Returns three PNG files of one size: the crop, the heat map (RGBA), and the heat map over the crop.

    Args:
        crop: the content of the crop box, (height, width) uint8.
        heat: (rows, columns), 0..1, of a feature map that covers the network's input.
        spec: the network's input, to which the crop was fitted.
        shift: `Predictor.map_shift`.
    """
    smooth = np.minimum(over_crop(heat, spec, crop.shape, shift), 1)
    colours = cv2.applyColorMap((smooth * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    alpha = (smooth * 255).astype(np.uint8)
    share = (smooth * OPACITY)[..., np.newaxis]
    over = crop[..., np.newaxis] * (1 - share) + colours * share
    return (
        _png(np.ascontiguousarray(crop)),
        _png(np.dstack([colours, alpha])),
        _png(over.astype(np.uint8)),
    )


def to_base64(png: bytes) -> str:
    """Encodes a file in base64, for JSON."""
    return base64.b64encode(png).decode()


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
