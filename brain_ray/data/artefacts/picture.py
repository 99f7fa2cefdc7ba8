"""Artefacts of the picture that was made of a scan: blur, grey levels, compression, position. Pure functions.

Each maps a grey image, uint8 (height, width), to one of the same shape.
"""

import cv2
import numpy as np

from brain_ray.arrays import Grey
from brain_ray.data.artefacts.scanner import REFERENCE_SIDE, as_grey, move, signs

AIR = 16
"""Grey level below which a pixel is more and more air, which changes of contrast leave black."""


def blur(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Blurs by a Gaussian of `amount` pixels of an image of `REFERENCE_SIDE`, more of a larger one."""
    sigma = amount * min(image.shape) / REFERENCE_SIDE
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REFLECT_101), np.uint8)


def contrast(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Multiplies the distance from the mean of what is not air by `amount`; air stays black.

    MedMNIST-C's (Pillow's) takes the mean of all pixels and makes air grey, which no scanner does.
    """
    table = np.arange(256, dtype=np.float32)
    tissue = image[image >= AIR]
    mean = float(tissue.mean()) if len(tissue) else 0.0
    return as_grey(np.minimum(table / AIR, 1) * (mean + amount * (table - mean)))[image]


def gamma(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Raises levels, as shares of 255, to the power `amount`; black and white stay."""
    return as_grey(255 * (np.arange(256, dtype=np.float32) / 255) ** amount)[image]


def brightness(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Multiplies by `amount`; black stays."""
    return as_grey(np.arange(256, dtype=np.float32) * amount)[image]


def jpeg(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Compresses to JPEG of quality `amount`, 1 to 100, and back."""
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(amount)])[1]
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), np.uint8)


def pixelation(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Shrinks by area to the share `amount` of its pixels in each direction, or of `REFERENCE_SIDE`, and
    enlarges without interpolation."""
    share = amount * min(1.0, REFERENCE_SIDE / min(image.shape))
    height, width = image.shape
    size = (max(1, int(width * share)), max(1, int(height * share)))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def rotation(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Turns by `amount` degrees, to a side that is drawn; air comes in at the corners."""
    return as_grey(move(image, amount * signs(rng, 1)[0], 0, 0))


def shift(image: Grey, amount: float, rng: np.random.Generator) -> Grey:
    """Moves along both axes by the share `amount` of the sides, to a corner that is drawn; air comes in."""
    right, down = signs(rng, 2) * amount
    return as_grey(move(image, 0, right * image.shape[1], down * image.shape[0]))
