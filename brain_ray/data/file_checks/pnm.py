"""PBM, PGM and PPM: a text header, then pixels as bits, bytes, pairs of bytes or numbers in text; one
picture."""

import re
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks import libraries
from brain_ray.data.file_checks.limits import ImageError, check_single

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_HEADER = 4096
"""Largest number of bytes of a header, comments included."""

_GAP = rb"(?:\s|#[^\n]*\n)+"
_HEADER = re.compile(
    rb"P(?:([14])|[2356])" + _GAP + rb"(\d{1,9})" + _GAP + rb"(\d{1,9})(?(1)|" + _GAP + rb"(\d{1,9}))\s"
)
_NEXT = re.compile(rb"\s*P[1-6]\s")


def reduce_pnm(data: bytes, max_pixels: int) -> bytes:
    """Returns a file without what follows its pixels, if these are no text.

    Raises:
        ImageError: it holds several pictures, or its header is damaged.
    """
    end, width, height, largest = _header(data)
    kind = data[1]
    if kind in b"123":
        return data + b"\n"  # OpenCV reads no last number without
    row = (
        -(-width // 8)
        if kind == ord("4")
        else width * (3 if kind == ord("6") else 1) * (2 if largest > 255 else 1)
    )
    end += row * height
    check_single(1 + (_NEXT.match(data, end) is not None), "pictures or more")
    return data[:end]


def pnm_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) of a file that `reduce_pnm` returned."""
    return _header(data)[1:3]


def decode_pnm(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a file to (height, width) grey, uint8 or uint16; its header's largest value becomes 255 if it
    is less.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """
    import numpy as np

    image = libraries.decode(data, width, height)
    largest = _header(data)[3]
    if largest >= 255 or image.dtype != np.uint8 or data[1] in b"14":
        return image
    table: NDArray[Any] = np.minimum(255, np.rint(np.arange(256) * (255 / largest))).astype(np.uint8)
    grey: NDArray[Any] = table[image]
    return grey


def _header(data: bytes) -> tuple[int, int, int, int]:
    """Returns where the pixels begin, the width, the height, and the largest value (1 for bits)."""
    found = _HEADER.match(data, 0, MAX_HEADER)
    if found is None:
        raise ImageError("damaged header: no width, height and largest value")
    width, height, largest = int(found[2]), int(found[3]), int(found[4] or 1)
    if not (width and height and 0 < largest < 65536):
        raise ImageError(f"damaged header: {width}x{height} px, values to {largest}")
    return found.end(), width, height, largest
