"""Decoding: the bytes of a file to an 8-bit grey image."""

import hashlib
import io
import warnings
from typing import TYPE_CHECKING

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from brain_ray.arrays import Grey
from brain_ray.data.file_checks import StructureError, reduce_to_picture, unpacks_beyond

if TYPE_CHECKING:  # it takes longer to import than all else that decodes
    pass

MIN_SIDE = 16
"""Images with a shorter side, in pixels, show no brain and are refused."""


_ROWS = 64


class ImageError(ValueError):
    """An image that cannot be used; its text is the reason, fit for a table of rejected files.

    `code` says which kind of reason: not_an_image, too_many_pixels, too_small or undecodable.
    """

    def __init__(self, reason: str, code: str = "undecodable") -> None:
        super().__init__(reason)
        self.code = code


def decode(data: bytes, max_pixels: int = 40_000_000, formats: tuple[str, ...] | None = None) -> Grey:
    """Decode an encoded image to 8-bit grey, (height, width).

    Colour becomes luma, alpha is ignored, EXIF rotation is applied, of several frames the first counts.
    More than 8 bits (16-bit, float) are scaled linearly from the image's own minimum..maximum to 0..255.

    Args:
        data: the file.
        max_pixels: more are refused.
        formats: that are taken, by Pillow's names; None: all that Pillow and OpenCV know. What PNG, JPEG,
            TIFF and WebP may cost is bounded (`brain_ray.data.file_checks`), others only by their size.

    Raises:
        ImageError: not an image, damaged, too costly, fewer than 16 px on a side, more than `max_pixels`, or
            not finite.
        MemoryError: there is too little.
    """
    if not data:
        raise ImageError("empty file", "not_an_image")
    data = _reduce(data, max_pixels)
    width, height = _header_size(data, formats)
    if width * height > max_pixels:
        raise ImageError(f"too large: {width}x{height} px, more than {max_pixels} pixels", "too_many_pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"too small: {width}x{height} px, a side needs {MIN_SIDE}", "too_small")
    if unpacks_beyond(data, width, height):
        raise ImageError("damaged: its pixels unpack to more than it has room for")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(error.err) from error
        raise ImageError(f"damaged: {error.err}") from error
    if image is None:
        raise ImageError("damaged or truncated: its header is an image's, its pixels cannot be decoded")
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise ImageError(f"not finite: {image.dtype} pixels with NaN or infinity")
    low, high = float(image.min()), float(image.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty(image.shape, np.uint8)
    for row in range(0, len(image), _ROWS):  # as float64, all rows at once would be eight times the image
        grey[row : row + _ROWS] = np.rint((image[row : row + _ROWS].astype(np.float64) - low) * scale)
    return grey


def read_size(data: bytes, max_pixels: int, formats: tuple[str, ...] | None = None) -> tuple[int, int]:
    """Return (width, height) of an encoded image, in pixels, by its header; arguments as those of `decode`.

    Raises:
        ImageError: not an image, of none of the formats, or too costly to open.
    """
    return _header_size(_reduce(data, max_pixels), formats)


def _reduce(data: bytes, max_pixels: int) -> bytes:
    try:
        return reduce_to_picture(data, max_pixels)
    except StructureError as error:
        raise ImageError(f"refused: {error}") from error


def _header_size(data: bytes, formats: tuple[str, ...] | None) -> tuple[int, int]:
    """Return (width, height) from the header of an image of some formats, without decoding its pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own limit on pixels is not ours
            with Image.open(io.BytesIO(data), formats=formats) as image:
                return image.size
    except Image.DecompressionBombError as error:
        raise ImageError(f"too large: {error}", "too_many_pixels") from error
    except UnidentifiedImageError as error:
        expected = f": expected one of {', '.join(formats)}" if formats else ""
        raise ImageError(f"not an image{expected}", "not_an_image") from error
    except Exception as error:  # Pillow's plugins raise many kinds on damaged headers
        raise ImageError(f"damaged header: {error}") from error


def pixel_hash(image: Grey) -> str:
    """SHA-256 (hex) of an image's size and pixels: equal for the same picture stored in other bytes."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _as_grey(image: object) -> Grey:
    return np.asarray(image, np.uint8)
