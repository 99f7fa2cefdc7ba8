"""Decoding: an encoded file -> an 8-bit grey image."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from brain_ray.arrays import Grey
from brain_ray.data.file_checks import libraries
from brain_ray.data.file_checks.limits import ImageError, StructureError
from brain_ray.data.formats import FORMATS, Format, format_of

__all__ = ["CheckedFile", "ImageError", "check_file", "decode", "decode_checked", "pixel_hash"]

MIN_SIDE = 16
"""Least length of an image's shorter side, in pixels; smaller images show no brain and are refused."""


_ROWS = 64


@dataclass(frozen=True)
class CheckedFile:
    """A checked encoded image: its size, and the parts of the file that its pixels need."""

    data: bytes
    format: Format | None
    """None: a format without a row in `FORMATS`, which Pillow knows."""
    width: int
    """Width in pixels from the header, before any rotation."""
    height: int


def decode(data: bytes, max_pixels: int = 40_000_000, formats: Sequence[Format] | None = None) -> Grey:
    """Decodes an encoded image to 8-bit grey, uint8 (height, width).

    Colour becomes luma, alpha is ignored, EXIF rotation is applied, and of several frames the first is taken.
    More than 8 bits (16-bit, float) are scaled linearly from the image's own minimum..maximum to 0..255.

    Args:
        data: the encoded file.
        max_pixels: largest number of pixels allowed.
        formats: accepted formats; None: `FORMATS`, and any other that Pillow and OpenCV know. The cost of a
            file of `FORMATS` is bounded (`brain_ray.data.file_checks`), of another only by its size.

    Raises:
        ImageError: not an image, damaged, too costly, fewer than 16 px on a side, more than `max_pixels`, or
            not finite.
        MemoryError: there is too little memory.
    """
    return decode_checked(check_file(data, max_pixels, formats), max_pixels)


def check_file(data: bytes, max_pixels: int, formats: Sequence[Format] | None = None) -> CheckedFile:
    """Finds an encoded image's format, drops the parts that its pixels do not need, and reads its size in the
    header.

    Args:
        data: the encoded file.
        max_pixels: largest number of pixels that the file's structure may need; its size is not compared with
            it.
        formats: accepted formats; None: `FORMATS`, and any other that Pillow and OpenCV know.

    Raises:
        ImageError: not an image, not of an accepted format, damaged, or too costly to decode.
    """
    if not data:
        raise ImageError("empty file", "not_an_image")
    found = format_of(data, FORMATS.values() if formats is None else formats)
    if found is None and formats is not None:
        raise _not_an_image(formats)
    try:
        if found is None:
            return CheckedFile(data, None, *libraries.header_size(data))
        data = found.check(data, max_pixels)
        return CheckedFile(data, found, *found.header_size(data))
    except StructureError as error:
        raise ImageError(f"refused: {error}") from error
    except ImageError as error:
        if error.code == "not_an_image":
            raise _not_an_image(formats) from error
        raise


def decode_checked(file: CheckedFile, max_pixels: int) -> Grey:
    """Decodes a checked file to 8-bit grey, uint8 (height, width); errors are those of `decode`."""
    width, height = file.width, file.height
    if width * height > max_pixels:
        raise ImageError(f"too large: {width}x{height} px, more than {max_pixels} pixels", "too_many_pixels")
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"too small: {width}x{height} px, a side needs {MIN_SIDE}", "too_small")
    image = (file.format.decode if file.format else libraries.decode)(file.data, width, height)
    if image.dtype == np.uint8:
        return np.asarray(image, np.uint8)
    if np.issubdtype(image.dtype, np.floating) and not np.isfinite(image).all():
        raise ImageError(f"not finite: {image.dtype} pixels with NaN or infinity")
    low, high = float(image.min()), float(image.max())
    scale = 255.0 / (high - low) if high > low else 0.0
    grey = np.empty(image.shape, np.uint8)
    for row in range(
        0, len(image), _ROWS
    ):  # converting all rows to float64 at once would take eight times the image
        grey[row : row + _ROWS] = np.rint((image[row : row + _ROWS].astype(np.float64) - low) * scale)
    return grey


def _not_an_image(formats: Sequence[Format] | None) -> ImageError:
    expected = f": expected one of {', '.join(row.name for row in formats)}" if formats else ""
    return ImageError(f"not an image{expected}", "not_an_image")


def pixel_hash(image: Grey) -> str:
    """Returns the SHA-256 (hex) of an image's size and pixels: the same for equal pictures in different
    files."""
    digest = hashlib.sha256(f"{image.shape[0]}x{image.shape[1]}:".encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()


def _as_grey(image: object) -> Grey:
    return np.asarray(image, np.uint8)
