"""PNG: libpng gets the pixels, and no text or profile; an animation of several pictures is refused.

Texts behind the pixels unpack to 8 MB each, a thousand of them to 8 GB; a frame of an animation (APNG) that
cannot be unfiltered ends the process (relative of opencv/opencv 27744); frames of 16 bits cost their canvas
three times.
"""

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks.libraries import decode_on_black
from brain_ray.data.file_checks.limits import (
    MAX_PARTS,
    ImageError,
    StructureError,
    check_parts,
    check_single,
)
from brain_ray.data.file_checks.tags import check_exif

if TYPE_CHECKING:
    from numpy.typing import NDArray

PNG = b"\x89PNG\r\n\x1a\n"

KEPT = {b"IHDR": 1, b"PLTE": 1, b"tRNS": 1, b"eXIf": 1, b"IDAT": MAX_PARTS, b"IEND": 1}
"""Largest number of chunks kept of each kind, from the first on."""

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Number of channels by a PNG's colour type; the numbers of a palette count as one."""

UNCHECKED = 2**18
"""Packed bytes of pixels up to which the unpacked size is not checked: a quarter of a GB at worst."""


def reduce_png(data: bytes, max_pixels: int) -> bytes:
    """Returns a PNG with the chunks that its pixels need.

    Raises:
        ImageError: it is an animation of several pictures.
        StructureError: a chunk ends beyond the file, there are too many, or the EXIF block is at fault.
    """
    left, reduced = dict(KEPT), [PNG]
    pictures, is_frame = 0, False  # a file's own picture need not be a frame of its animation
    for part, (kind, start, end) in enumerate(_chunks(data), start=1):
        if end + 4 > len(data):
            raise StructureError(f"a part of {end - start} bytes, of which {len(data) - start - 4} are there")
        check_parts(part)
        if kind == b"fcTL":
            pictures += 1
            is_frame = is_frame or left[b"IDAT"] == MAX_PARTS
        if left.get(kind, 0):
            left[kind] -= 1
            reduced.append(data[start - 8 : end + 4])
            if kind == b"eXIf":
                check_exif(data[start:end])
    check_single(pictures + (not is_frame), "frames")
    return b"".join(reduced)


def read_header(data: bytes) -> list[float]:
    """Returns what a PNG's header says: bits per sample, channels, and whether it is interlaced; [] if it is
    cut."""
    header = data[len(PNG) + 8 : len(PNG) + 21]
    if len(header) < 13:
        return []
    return [float(header[8]), float(_CHANNELS.get(header[9], 0)), float(header[12])]


def decode_png(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a PNG to (height, width) grey, uint8 or deeper, laid on black, with EXIF rotation applied.

    Raises:
        ImageError: it is damaged, or its pixels unpack to more than the size in its header has room for.
        MemoryError: there is too little memory.
    """
    if _unpacks_beyond(data, width, height):
        raise ImageError("damaged: its pixels unpack to more than it has room for")
    return decode_on_black(data, width, height)


def _unpacks_beyond(data: bytes, width: int, height: int) -> bool:
    """Returns whether a PNG's pixels unpack to more than the size in its header has room for."""
    packed = [data[start:end] for kind, start, end in _chunks(data) if kind == b"IDAT"]
    if sum(map(len, packed)) <= UNCHECKED:
        return False
    room = (
        8 * width * height + 16 * height + 4096
    )  # at most 8 bytes a pixel, and a byte for each row of a pass
    unpacker = zlib.decompressobj()
    try:
        for piece in packed:
            rest = piece
            while rest and not unpacker.eof:
                room -= len(unpacker.decompress(rest, 2**20))
                rest = unpacker.unconsumed_tail
                if room < 0:
                    return True
    except zlib.error:
        pass  # damaged: the decoder reports how
    return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yields a PNG's chunks: kind, start and end of the content; the end may lie beyond the file."""
    at, kind = len(PNG), b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield kind, at + 8, at + 8 + length
        at += 12 + length
