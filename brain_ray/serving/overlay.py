"""Draws a heat map over the part of an image that the model saw."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

from brain_ray.arrays import Grey

OPACITY = 0.55
"""Of the heat map where it is hottest, in the overlay."""

MAX_SIDE = 512
"""Longest side, in pixels, of a crop that is shown; longer ones are shrunk."""


def draw_overlay(crop: Grey, heat: NDArray[np.float32]) -> tuple[bytes, bytes, bytes]:
    """Returns three PNG files of one size: the crop, the heat map (RGBA), and the one over the other.

    Args:
        crop: the part of the image that the model saw, (height, width) uint8.
        heat: (rows, columns), 0..1, of a feature map that covers it.
    """
    height, width = crop.shape
    smooth = np.clip(cv2.resize(heat, (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
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
    """Encodes a file for JSON."""
    return base64.b64encode(png).decode()


def _png(picture: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 3])[1].tobytes()
