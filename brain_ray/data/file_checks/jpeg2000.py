"""JPEG 2000: OpenJPEG gets one codestream, whose tiles, layers and packets are bounded.

OpenJPEG keeps an object for each tile, code block and packet, and a header of some bytes can ask for
millions: the smallest code blocks of 40 million pixels took more than a gigabyte.
"""

import struct
from collections.abc import Iterator

from brain_ray.data.file_checks.limits import ImageError, StructureError, check_parts, check_single

BOXES = b"\0\0\0\x0cjP  \r\n\x87\n"
CODESTREAM = b"\xff\x4f\xff\x51"

_KEPT = (b"jP  ", b"ftyp", b"jp2h", b"jp2c")

MAX_TILES, MAX_PACKETS, MAX_LEVELS = 2**12, 2**20, 10
"""Largest numbers; an image of 40 million pixels in tiles of 1024 x 1024, with 12 layers, has 40 tiles and
9,000 packets. Encoders split an image five times into a quarter."""

MIN_BLOCK = 8
"""Least pixels of a code block, as a power of two; encoders use 10 and 12."""

MIN_PRECINCT = 5
"""Least side of a precinct, as a power of two."""

_SIZ, _COD, _COC, _TILE, _PIXELS, _END = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93, 0xFFD9


def reduce_jpeg2000(data: bytes, max_pixels: int) -> bytes:
    """Returns a codestream as it is, and a file of boxes with those that its pixels need.

    Raises:
        ImageError: it holds several images, or is cut short.
        StructureError: colours, tiles, layers, code blocks or packets that no picture needs.
    """
    if data.startswith(CODESTREAM):
        _check_codestream(data)
        return data
    reduced, streams = [], []
    for part, (kind, start, content, end) in enumerate(_boxes(data), start=1):
        check_parts(part)
        if kind == b"jp2h" and b"pclr" in data[content:end]:
            raise StructureError("a palette in JPEG 2000, which is not read")
        if kind == b"jp2c":
            streams.append(data[content:end])
        if kind in _KEPT:
            reduced.append(data[start:end])
    check_single(len(streams), "images")
    if not streams:
        raise ImageError("cut short: a JPEG 2000 without pixels")
    _check_codestream(streams[0])
    return b"".join(reduced)


def jpeg2000_size(data: bytes) -> tuple[int, int]:
    """Returns (width, height) of a file that `reduce_jpeg2000` returned."""
    right, bottom, left, top = struct.unpack_from(">4I", data, data.index(CODESTREAM) + 8)
    return right - left, bottom - top


def _boxes(data: bytes) -> Iterator[tuple[bytes, int, int, int]]:
    """Yields the boxes of a file: kind, start, start of the content, end."""
    at = 0
    while at + 8 <= len(data):
        length, kind, content = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8], at + 8
        if length == 1:
            length, content = int.from_bytes(data[at + 8 : at + 16], "big"), at + 16
        end = len(data) if length == 0 else min(len(data), at + max(length, content - at))
        yield kind, at, content, end
        at = end


def _check_codestream(data: bytes) -> None:
    if not data.startswith(CODESTREAM) or len(data) < 42:
        raise ImageError("damaged header: no size in a codestream of JPEG 2000")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", data, 8)
    (colours,) = struct.unpack_from(">H", data, 40)
    parts = data[42 : 42 + 3 * colours]
    if not 1 <= colours <= 4 or len(parts) < 3 * colours:
        raise StructureError(f"{colours} colours in JPEG 2000")
    depths, steps = {byte & 0x7F for byte in parts[::3]}, {*parts[1::3], *parts[2::3]}
    if max(depths) >= 16 or not steps <= {1, 2, 4} or (parts[1], parts[2]) != (1, 1):
        raise StructureError("colours of other sizes, or of more than 16 bits, in JPEG 2000")
    if right <= left or bottom <= top or not (tile_width and tile_height):
        raise ImageError("damaged header: a JPEG 2000 without pixels")
    tiles = -(-right // tile_width) * -(-bottom // tile_height)
    if tiles > MAX_TILES:
        raise StructureError(f"{tiles} tiles")
    pixels = (right - left) * (bottom - top)
    for kind, body in _segments(data):
        if kind == _COD:
            _check_coding(body[:1] + body[5:], int.from_bytes(body[2:4], "big"), colours, tiles, pixels)
        elif kind == _COC:
            _check_coding(body[1:], 1, colours, tiles, pixels)


def _check_coding(coding: bytes, layers: int, colours: int, tiles: int, pixels: int) -> None:
    """Checks a style of coding: a byte that tells of precincts, then levels, code blocks and precincts."""
    if len(coding) < 6:
        raise ImageError("damaged header: a style of coding of JPEG 2000 is cut short")
    levels, block = coding[1], (coding[2] & 15) + (coding[3] & 15) + 4
    if levels > MAX_LEVELS or not MIN_BLOCK <= block <= 12:
        raise StructureError(f"{levels} levels and code blocks of {2**block} pixels in JPEG 2000")
    precincts = coding[6 : 7 + levels] if coding[0] & 1 else b""
    sides = [side for byte in precincts for side in (byte & 15, byte >> 4)]
    if min(sides, default=15) < MIN_PRECINCT:
        raise StructureError("precincts of a few pixels in JPEG 2000")
    smallest = 4 ** min(sides, default=15)
    packets = colours * layers * (tiles * (levels + 1) + 2 * pixels // smallest)
    if packets > MAX_PACKETS:
        raise StructureError(f"{packets} packets in JPEG 2000")


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yields the segments of all headers of a codestream, without their lengths: kind and content."""
    at, part, tile_start, tile_length = 2, 0, 0, 0
    while at + 4 <= len(data):
        part += 1
        check_parts(part)
        kind, length = struct.unpack_from(">HH", data, at)
        if kind == _END:
            return
        if kind == _PIXELS:
            if not tile_length:
                return
            at = tile_start + max(tile_length, at + 2 - tile_start)
            continue
        if kind == _TILE:
            tile_start, tile_length = at, int.from_bytes(data[at + 6 : at + 10], "big")
        yield kind, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)
