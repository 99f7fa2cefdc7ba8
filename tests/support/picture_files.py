"""A file of each picture format, by its suffix, made of a grey image."""

import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_PILLOW = {
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".gif": "GIF",
    ".jp2": "JPEG2000",
    ".jpf": "JPEG2000",
}

_PNM = {".pbm": "1", ".pgm": "L", ".ppm": "RGB", ".pnm": "L"}


def picture_file(image: NDArray[np.uint8], suffix: str) -> bytes:
    """Encode a (height, width) image."""
    if suffix in (".j2k", ".j2c"):
        return saved(Image.fromarray(image), "JPEG2000", no_jp2=True)
    if suffix in _PNM:
        return saved(Image.fromarray(image).convert(_PNM[suffix]), "PPM")
    if suffix in _PILLOW:
        return saved(Image.fromarray(image), _PILLOW[suffix])
    return bytes(cv2.imencode(suffix, image)[1])


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """Encode an image of Pillow's."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
