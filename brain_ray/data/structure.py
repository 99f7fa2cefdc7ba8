"""Looks through a file's structure before a decoder does: small files that cost it seconds or gigabytes.

OpenCV makes room for a part of a PNG as long as the part says it is, and unpacks all that is packed; libjpeg
goes over all pixels once for each scan of a progressive JPEG; Pillow and libtiff copy the same bytes once for
each tag of a TIFF, or of an EXIF block, that refers to them. None of them knows a limit.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Literal

MAX_PARTS = 20_000
"""Chunks of a PNG or a WebP, segments of a JPEG; Pillow takes some microseconds for each."""

MAX_SCANS = 100
"""Scans of a JPEG; progressive ones have about ten. The limit that libtiff has as well."""

MAX_GAP = 4096
"""Bytes between two segments of a JPEG that belong to neither, as long as no pixels have come."""

UNCHECKED = 2**18
"""Packed bytes of a PNG's pixels that may unpack to whatever they like: a quarter of a GB at worst."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two: BigTIFF
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The start of a JPEG's segment: no stuffed zero, restart or fill byte, which occur among the pixels."""

_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
"""Bytes of one value, by the type of a TIFF's tag."""


def find_fault(data: bytes) -> str | None:
    """Return what makes a file too costly to open or to decode; None: nothing."""
    if data.startswith(_PNG):
        return _png_fault(data)
    if data.startswith(_JPEG):
        return _jpeg_fault(data)
    if data.startswith(_TIFF):
        return _tiff_fault(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_fault(data)
    return None


def unpacks_beyond(data: bytes, width: int, height: int) -> bool:
    """Tell whether a PNG's pixels unpack to more than the size in its header has room for."""
    if not data.startswith(_PNG):
        return False
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
        pass  # damaged: the decoder says how
    return False


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield a PNG's chunks: kind, and where the content begins and ends, be that beyond the file."""
    at, kind = len(_PNG), b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        yield kind, at + 8, at + 8 + length
        at += 12 + length


def _png_fault(data: bytes) -> str | None:
    for part, (kind, start, end) in enumerate(_chunks(data), start=1):
        if end + 4 > len(data):
            return f"a part of {end - start} bytes, of which {len(data) - start - 4} are there"
        if part > MAX_PARTS:
            return f"more than {MAX_PARTS} parts"
        if kind == b"eXIf" and (fault := _exif_fault(data[start:end])):
            return fault
    return None


def _jpeg_fault(data: bytes) -> str | None:
    at, parts, scans = len(_JPEG), 0, 0
    while (found := _MARKER.search(data, at)) is not None:
        gap, at, kind = found.start() - at, found.end(), data[found.start() + 1]
        if kind == 0xD9:  # the end
            break
        parts += 1
        if gap > MAX_GAP and not scans:
            return f"{gap} bytes that belong to no part"
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            return f"more than {MAX_SCANS} scans"
        if parts > MAX_PARTS:
            return f"more than {MAX_PARTS} parts"
        if kind not in (0x01, 0xD8):  # all others have a length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return None


def _tiff_fault(data: bytes) -> str | None:
    """Expect the values of the first page's tags to have room beside one another."""
    order: Literal["little", "big"] = "little" if data[:1] == b"I" else "big"

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], order)

    big = number(2, 2) == 43
    word, entry, few = (8, 20, 8) if big else (4, 12, 2)
    start = number(8, 8) if big else number(4, 4)
    total = 0
    for i in range(min(number(start, few), len(data) // entry)):
        at = start + few + i * entry
        total += _TAG_SIZES.get(number(at + 2, 2), 8) * number(at + 4, word)
        if total > len(data):
            return "its tags hold more than the file does"
    return None


def _exif_fault(block: bytes) -> str | None:
    tiff = block.removeprefix(b"Exif\0\0")
    return _tiff_fault(tiff) if tiff.startswith(_TIFF) else None


def _webp_fault(data: bytes) -> str | None:
    at, parts = 12, 0
    while at + 8 <= len(data):
        length, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4]
        parts += 1
        if parts > MAX_PARTS:
            return f"more than {MAX_PARTS} parts"
        if kind == b"EXIF" and (fault := _exif_fault(data[at + 8 : at + 8 + length])):
            return fault
        at += 8 + length + length % 2
    return None
