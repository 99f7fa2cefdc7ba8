"""A format of image files that nobody has, to be given where formats are rows: it notes each look at a file.

A file is `GREY <width> <height> <path of the notes>`, a line feed, and a byte a pixel.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.file_checks.limits import ImageError, StructureError
from brain_ray.data.formats import PictureFormat


def write(image: NDArray[np.uint8], notes: Path) -> bytes:
    """Return the file of an image."""
    height, width = image.shape
    return f"GREY {width} {height} {notes}\n".encode() + image.tobytes()


def check(data: bytes, max_pixels: int) -> bytes:
    """Return the file without what follows its pixels."""
    width, height = _size(data)
    _note(data, "check")
    if width * height > 4 * max_pixels:
        raise StructureError(f"made for {width}x{height} px")
    return data[: data.index(b"\n") + 1 + width * height]


def header_size(data: bytes) -> tuple[int, int]:
    """Return (width, height)."""
    _note(data, "header")
    return _size(data)


def decode(data: bytes, width: int, height: int) -> NDArray[Any]:
    """Return the pixels."""
    _note(data, "decode")
    pixels = np.frombuffer(data[data.index(b"\n") + 1 :], np.uint8)
    if len(pixels) != width * height:
        raise ImageError("damaged: some pixels are missing")
    return pixels.reshape(height, width)


MADE_UP = PictureFormat(
    name="GREY",
    title="Grey",
    suffixes=(".grey",),
    media_type="image/x-grey",
    signature=rb"GREY \d+ \d+ ",
    check=check,
    header_size=header_size,
    decode=decode,
)


def _size(data: bytes) -> tuple[int, int]:
    _, width, height, _ = data.split(b"\n", 1)[0].split(b" ", 3)
    return int(width), int(height)


def _note(data: bytes, word: str) -> None:
    with Path(data.split(b"\n", 1)[0].split(b" ", 3)[3].decode()).open("a") as notes:
        print(word, file=notes)
