"""Known formats of image files: `FORMATS` has a row for each.

A new format is a module of `brain_ray.data.file_checks` with `check`, `header_size` and `decode`, and a row
here: decoding, uploads, the API's documentation, the client and the page read `FORMATS`. No image library is
imported before a file is checked.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks import bmp, libraries
from brain_ray.data.file_checks.jpeg import reduce_jpeg
from brain_ray.data.file_checks.png import decode_png, reduce_png
from brain_ray.data.file_checks.tiff import reduce_tiff
from brain_ray.data.file_checks.webp import reduce_webp

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Format:
    """A format of image files. Its functions must be importable by name: they are sent to other processes."""

    name: str
    """Short name in capitals; Pillow's own if Pillow knows the format."""
    title: str
    """The usual spelling, for people."""
    suffixes: tuple[str, ...]
    """Suffixes of file names, in lower case, with their dot."""
    media_type: str
    signature: bytes
    """Regular expression that the start of every file of this format matches, and of no other."""
    check: Callable[[bytes, int], bytes]
    """Takes a file and the largest number of pixels allowed; returns the file without parts that its pixels
    do not need.

    Raises:
        StructureError: decoding it would take too much time or memory.
    """
    header_size: Callable[[bytes], tuple[int, int]]
    """Takes a file that `check` returned; returns (width, height), in pixels.

    Raises:
        ImageError: it is not of this format after all, or its header is damaged.
    """
    decode: Callable[[bytes, int, int], "NDArray[Any]"]
    """Takes a file that `check` returned, its width and its height; returns (height, width) pixels of any
    number type, in which higher is brighter, after the rotation that the file specifies.

    Raises:
        ImageError: it is damaged.
        MemoryError: there is too little memory.
    """


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format(
            name="JPEG",
            title="JPEG",
            suffixes=(".jpg", ".jpeg"),
            media_type="image/jpeg",
            signature=rb"\xff\xd8\xff",
            check=reduce_jpeg,
            header_size=partial(libraries.header_size, name="JPEG"),
            decode=libraries.decode,
        ),
        Format(
            name="PNG",
            title="PNG",
            suffixes=(".png",),
            media_type="image/png",
            signature=rb"\x89PNG\r\n\x1a\n",
            check=reduce_png,
            header_size=partial(libraries.header_size, name="PNG"),
            decode=decode_png,
        ),
        Format(
            name="BMP",
            title="BMP",
            suffixes=(".bmp",),
            media_type="image/bmp",
            signature=rb"BM",
            check=bmp.reduce_bmp,
            header_size=partial(libraries.header_size, name="BMP"),
            decode=libraries.decode,
        ),
        Format(
            name="TIFF",
            title="TIFF",
            suffixes=(".tif", ".tiff"),
            media_type="image/tiff",
            # Two byte orders and two sizes of offsets; and a mixture that Pillow reads and the check refuses.
            signature=rb"II[*+]\0|MM\0[*+]|II\0\*|MM\*\0",
            check=reduce_tiff,
            header_size=partial(libraries.header_size, name="TIFF"),
            decode=libraries.decode,
        ),
        Format(
            name="WEBP",
            title="WebP",
            suffixes=(".webp",),
            media_type="image/webp",
            signature=rb"RIFF(?s:.{4})WEBP",
            check=reduce_webp,
            header_size=partial(libraries.header_size, name="WEBP"),
            decode=libraries.decode,
        ),
    )
}
"""The rows, by name, in the order in which messages and pages list them."""


def format_of(data: bytes, formats: Iterable[Format]) -> Format | None:
    """Returns the format whose signature a file has; None if there is no such format."""
    return next((row for row in formats if re.match(row.signature, data)), None)


def media_types() -> dict[str, str]:
    """Returns the media type of each suffix."""
    return {suffix: row.media_type for row in FORMATS.values() for suffix in row.suffixes}
