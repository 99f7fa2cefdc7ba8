"""JPEG: libjpeg gets the pixels, their tables, the colour space's segments, and one EXIF block.

libjpeg goes over all pixels once for each scan, even if the scan has few bytes: 100 scans of 40 million
pixels took 3 s with Huffman codes, 14 s with arithmetic ones. Pillow copies all EXIF read so far for each
further segment of it.
"""

import io
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from brain_ray.data.file_checks import libraries
from brain_ray.data.file_checks.limits import ImageError, StructureError, check_parts
from brain_ray.data.file_checks.tags import check_exif

if TYPE_CHECKING:
    from numpy.typing import NDArray

JPEG = b"\xff\xd8\xff"

MAX_SCANS = 100
"""Largest number of scans; progressive files have about ten. libtiff has the same limit."""

PIXELS_PER_VISIT = 2
"""Pixels, of the largest picture allowed, for each visit of a block of 8x8 pixels that the scans may make.

At 40 million pixels these are 20 million visits, which took 1 s; a progressive JPEG of that size in four
colours needs 15 million.
"""

MAX_TABLES = 2**18
"""Largest number of bytes of tables; a scan needs some hundred. Pillow reads them in Python."""

MAX_GAP = 4096
"""Largest number of bytes between segments that belong to no segment."""

_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""The start of a segment: no stuffed zero, restart or fill byte, which occur among the pixels."""

_END, _SCAN = 0xD9, 0xDA

_END_MARKER = b"\xff\xd9"

_FILLER = b"\x55" * 4096
"""Codes of pixels that are not those of black or grey."""


def reduce_jpeg(data: bytes, max_pixels: int) -> bytes:
    """Returns a JPEG with the segments that its pixels need.

    Raises:
        StructureError: a coding that is not read, or more segments, scans, tables or junk than are allowed.
    """
    return walk_jpeg(data, max_pixels)[0]


def walk_jpeg(data: bytes, max_pixels: int) -> tuple[bytes, int]:
    """Returns a reduced JPEG, and the number of visits of a block of 8x8 pixels by its scans.

    Raises:
        StructureError: a coding that is not read, or more segments, scans, tables or junk than are allowed.
    """
    walk, reduced = _Walk(max_pixels), [data[:2]]
    for part, (kind, start, end) in enumerate(_segments(data), start=1):
        check_parts(part)
        if kind not in _RULES:
            raise StructureError(f"a coding of JPEG that is not read (marker {kind:02X})")
        segment = data[start:end]
        if _RULES[kind](walk, segment):
            reduced.append(segment)
    return b"".join(reduced), walk.visits


def read_tables(data: bytes) -> list[float]:
    """Returns what a JPEG's header says of its coding; [] if it is damaged before its pixels.

    Bits per sample, channels, whether it is progressive, the sampling of the first channel across and down,
    and the logarithm of the mean step of the first two quantisation tables (NaN for a table that is not
    there)."""
    frame: list[float] = []
    steps = [math.nan, math.nan]
    try:
        for part, (kind, start, end) in enumerate(_segments(data), start=1):
            check_parts(part)
            if kind == _SCAN:
                break
            if kind in (0xC0, 0xC1, 0xC2):
                sampling = data[start + 11]
                frame = [data[start + 4], data[start + 9], kind == 0xC2, sampling >> 4, sampling & 15]
            elif kind == 0xDB:
                at = start + 4
                while at + 65 <= end:  # several tables may follow each other
                    deep, number = data[at] >> 4, data[at] & 15
                    step = 2 if deep else 1
                    table = data[at + 1 : at + 1 + 64 * step]
                    if number < len(steps):
                        values = [
                            int.from_bytes(table[k : k + step], "big") for k in range(0, len(table), step)
                        ]
                        steps[number] = math.log(max(1, sum(values)) / 64)
                    at += 1 + 64 * step
    except (StructureError, IndexError):
        return []
    return [float(fact) for fact in (*frame, *steps)] if frame else []


def decode_jpeg(data: bytes, width: int, height: int) -> "NDArray[Any]":
    """Decodes a JPEG to (height, width) grey, uint8, with EXIF rotation applied.

    A file that only lacks its end marker is decoded: cameras, frame grabbers and cut downloads leave such
    files. That all pixels are there shows in that it makes no difference which codes follow.

    Raises:
        ImageError: it is damaged, or pixels are missing.
        MemoryError: there is too little memory.
    """
    if data.endswith(_END_MARKER):
        return libraries.decode(data, width, height)
    data = data.removesuffix(b"\xff")
    if not _has_all_scans(data) or _shown(data) != _shown(data + _FILLER):
        raise ImageError("damaged: cut short, its last pixels are missing")
    return libraries.decode(data + _END_MARKER, width, height)


def _shown(data: bytes) -> bytes:
    """Returns the pixels of a JPEG without end, by Pillow: OpenCV writes a line for each that is damaged."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data + _END_MARKER), formats=("JPEG",)) as image:
            return image.tobytes()
    except OSError as error:
        raise ImageError(f"damaged: {libraries.reason_of(error)}") from error


def _has_all_scans(data: bytes) -> bool:
    """Returns whether a JPEG without end has a scan of each colour; of a progressive one that is not
    known."""
    colours = scanned = 0
    for kind, start, _ in _segments(data):
        if kind in (0xC0, 0xC1):
            colours = data[start + 9]
        elif kind == _SCAN:
            scanned += data[start + 4]
    return 0 < colours <= scanned


class _Walk:
    """State of a walk over the segments. Each method takes a whole segment and returns whether it is kept."""

    def __init__(self, max_pixels: int) -> None:
        self.visits = 0
        self._max_pixels = max_pixels
        self._size: tuple[int, int] | None = None
        self._scans = self._tables = 0
        self._has_exif = False

    def keep(self, _: bytes) -> bool:
        return True

    def drop(self, _: bytes) -> bool:
        return False

    def size(self, segment: bytes) -> bool:
        if self._size is not None:
            raise StructureError("two sizes")
        if segment[9:10] not in (b"\1", b"\3", b"\4"):
            raise StructureError("neither 1, 3 nor 4 colours")
        height, width = (int.from_bytes(segment[at : at + 2], "big") for at in (5, 7))
        self._size = height, width
        return True

    def tables(self, segment: bytes) -> bool:
        self._tables += len(segment)
        if self._tables > MAX_TABLES:
            raise StructureError(f"more than {MAX_TABLES} bytes of tables")
        return True

    def scan(self, segment: bytes) -> bool:
        if self._size is None:
            raise StructureError("pixels before their size")
        self._scans += 1
        if self._scans > MAX_SCANS:
            raise StructureError(f"more than {MAX_SCANS} scans")
        height, width = self._size
        colours = max(segment[4:5], default=1)
        self.visits += colours * -(-height // 8) * -(-width // 8)
        if self.visits * PIXELS_PER_VISIT > self._max_pixels:
            raise StructureError(f"{self._scans} scans over {width}x{height} px")
        return True

    def end(self, _: bytes) -> bool:
        if not self._scans:
            raise StructureError("its end comes before its pixels")
        return True

    def exif(self, segment: bytes) -> bool:
        if self._has_exif or self._scans or not segment.startswith(b"Exif\0", 4):
            return False
        self._has_exif = True
        check_exif(segment[4:])
        return True


_RULES = {
    **dict.fromkeys((0xC0, 0xC1, 0xC2), _Walk.size),  # baseline, extended, progressive
    **dict.fromkeys((0xC4, 0xDB, 0xDD), _Walk.tables),  # and the distance of restart markers
    _SCAN: _Walk.scan,
    _END: _Walk.end,
    0xE1: _Walk.exif,
    **dict.fromkeys((0xE0, 0xEE), _Walk.keep),  # JFIF and Adobe give the colour space
    **dict.fromkeys((0x01, 0xDC, *range(0xE2, 0xEE), 0xEF, 0xFE), _Walk.drop),  # previews, profiles, texts
}
"""Method by marker; arithmetic, lossless and hierarchical coding have none."""


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yields a JPEG's segments up to its end: kind, start, end. A scan's segment includes its coded
    pixels."""
    at, gap = 2, 0
    while (found := _MARKER.search(data, at)) is not None:
        start, kind = found.start(), data[found.start() + 1]
        gap += start - at
        if gap > MAX_GAP:
            raise StructureError(f"{gap} bytes that belong to no part")
        at = start + 2
        if kind not in (0x01, _END):  # all others have a length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        if kind == _SCAN:
            follows = _MARKER.search(data, at)
            at = len(data) if follows is None else follows.start()
        yield kind, start, at
        if kind == _END:
            return
