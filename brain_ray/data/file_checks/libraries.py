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
        raise ImageError(f"damaged header: {reason_of(error)}") from error


def reason_of(error: Exception) -> str:
    """Returns what Pillow says of a damaged file; only the error's kind if it gives an object's address."""
    said = str(error)
    return type(error).__name__ if " at 0x" in said else said


def decode(data: bytes, width: int, height: int, colours: bool = False) -> "NDArray[Any]":
    """Decodes a file with OpenCV to (height, width) grey, uint8 or its deeper type, with EXIF rotation
    applied.

    With `colours`, OpenCV decodes three of them, and their luma is taken here: of colours of more than 16
    bits it makes no grey itself.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    import cv2
    import numpy as np

    from brain_ray.data.intensity import luma

    mode = cv2.IMREAD_UNCHANGED if colours else cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), mode)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise ImageError(f"damaged: {error.err}") from error
    if image is None:
        raise ImageError("damaged or truncated: its header is an image's, its pixels cannot be decoded")
    return luma(image[..., 2::-1]) if image.ndim == 3 else image


def decode_on_black(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a file as `decode` does, and lays it on black, MR's background, where it is transparent.

    A picture that is transparent everywhere counts as opaque: programs leave an alpha of zeros that means
    nothing.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    import numpy as np

    image = decode(data, width, height)
    alpha = _alpha(data)
    if alpha is None or alpha.shape != image.shape or not alpha.any() or (alpha.all() and alpha.min() == 255):
        return image
    if image.dtype == np.uint8:
        grey: NDArray[Any] = ((image.astype(np.uint16) * alpha + 127) // 255).astype(np.uint8)
    else:
        grey = image * (alpha / np.float32(255))
    return grey


def _alpha(data: bytes) -> "NDArray[Any] | None":
    """Returns a picture's alpha, (height, width) uint8 after its EXIF rotation; None if it has none."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                if image.mode not in ("LA", "PA", "RGBA") and "transparency" not in image.info:
                    return None
                turned = ImageOps.exif_transpose(image)
                return np.asarray(turned.convert("RGBA").getchannel("A"))
    except MemoryError:
        raise
    except Exception as error:  # Pillow's plugins raise many kinds on damaged pixels
        raise ImageError(f"damaged: its transparency cannot be decoded ({reason_of(error)})") from error
