"""Pillow and OpenCV, for most formats: read the size in a header, and decode the pixels.

Both are imported when a file is first checked: a client of the endpoint knows the formats without them.
"""

import io
import warnings
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks.limits import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def header_size(data: bytes, name: str | None = None) -> tuple[int, int]:
    """Returns (width, height) from the header of a file of Pillow's format `name`, or of any format that
    Pillow knows.

    Raises:
        ImageError: Pillow does not know it, or its header is damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit on pixels is not used
            with Image.open(io.BytesIO(data), formats=None if name is None else (name,)) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}", "too_many_pixels") from error
    except UnidentifiedImageError as error:
        raise ImageError("not an image", "not_an_image") from error
    except Exception as error:  # Pillow's plugins raise many kinds on damaged headers
        raise ImageError(f"damaged header: {error}") from error


def decode(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a file with OpenCV to (height, width) grey, uint8 or its deeper type, with EXIF rotation
    applied.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    import cv2
    import numpy as np

    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise ImageError(f"damaged: {error.err}") from error
    if image is None:
        raise ImageError("damaged or truncated: its header is an image's, its pixels cannot be decoded")
    return image
