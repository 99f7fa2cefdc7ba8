"""Looks through a file's structure before a decoder does: small files that cost it seconds or gigabytes.

OpenCV makes room for a part of a PNG as long as the part says it is, and unpacks all that is packed; libjpeg
goes over all pixels once for each scan of a progressive JPEG. Neither knows a limit.
"""

import re
import zlib

MAX_SCANS = 100
"""Scans of a JPEG; progressive ones have about ten. The limit that libtiff has as well."""

UNCHECKED = 2**18
"""Packed bytes of a PNG's pixels that may unpack to whatever they like: a quarter of a GB at worst."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The start of a JPEG's segment: no stuffed zero, restart or fill byte, which occur among the pixels."""


def find_fault(data: bytes, width: int, height: int) -> str | None:
    """Return what makes a file too costly to decode, given the size that its header states; None: nothing."""
    if data.startswith(_PNG):
        return _png_fault(data, width, height)
    if data.startswith(_JPEG):
        return _jpeg_fault(data)
    return None


def _png_fault(data: bytes, width: int, height: int) -> str | None:
    packed: list[bytes] = []
    at, kind = len(_PNG), b""
    while at + 12 <= len(data) and kind != b"IEND":
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if length > len(data) - at - 12:
            return f"a part of {length} bytes, of which {len(data) - at - 12} are there"
        if kind == b"IDAT":
            packed.append(data[at + 8 : at + 8 + length])
        at += 12 + length
    if sum(map(len, packed)) <= UNCHECKED:
        return None
    room = (
        8 * width * height + 16 * height + 4096
    )  # at most 8 bytes a pixel, and a byte for each row of a pass
    return "its pixels unpack to more than it has room for" if _unpacks_beyond(packed, room) else None


def _unpacks_beyond(packed: list[bytes], room: int) -> bool:
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


def _jpeg_fault(data: bytes) -> str | None:
    at, scans = len(_JPEG), 0
    while (found := _MARKER.search(data, at)) is not None:
        at, kind = found.end(), data[found.start() + 1]
        if kind == 0xD9:  # the end
            break
        scans += kind == 0xDA
        if scans > MAX_SCANS:
            return f"more than {MAX_SCANS} scans"
        if kind not in (0x01, 0xD8):  # all others have a length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
    return None
