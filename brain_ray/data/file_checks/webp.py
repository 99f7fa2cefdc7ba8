"""WebP: libwebp gets one picture; of an animation its only frame, which has to fill the canvas.

A canvas takes eight bytes a pixel, whatever the size of the frames: 94 bytes made 400 MB.
"""

import struct
from collections.abc import Iterator

from brain_ray.data.file_checks.limits import StructureError, check_parts, check_single
from brain_ray.data.file_checks.tags import check_exif

_ANIMATED, _KEPT_FLAGS = 0x02, 0x18  # of a VP8X chunk; kept: alpha, EXIF
_PICTURE = (b"VP8 ", b"VP8L")


def reduce_webp(data: bytes, max_pixels: int) -> bytes:
    """Returns a WebP with the chunks that its pixels need.

    Raises:
        ImageError: it is an animation of several frames.
        StructureError: too many chunks, an EXIF block at fault, or a frame smaller than the canvas.
    """
    reduced: dict[bytes, bytes] = {}
    canvas = b""
    frames = 0
    for kind, start, end in _chunks(data, 12):
        content = data[start:end]
        frames += kind == b"ANMF"
        if kind == b"VP8X" and not reduced:
            flags, canvas = content[:1], content[4:10]
            reduced[kind] = (
                data[start - 8 : start] + bytes(byte & _KEPT_FLAGS for byte in flags) + content[1:]
            )
        elif kind == b"ANMF" and not reduced.keys() & {*_PICTURE}:
            if content[:6] != bytes(6) or content[6:12] != canvas:
                raise StructureError("a frame that does not fill the canvas")
            for inner, first, last in _chunks(content, 16):
                if inner in (b"ALPH", *_PICTURE):
                    reduced.setdefault(inner, content[first - 8 : last + (last - first) % 2])
        elif kind in (b"ALPH", b"EXIF", *_PICTURE):
            reduced.setdefault(kind, data[start - 8 : end + (end - start) % 2])
            if kind == b"EXIF":
                check_exif(content)
    check_single(frames, "frames")
    body = b"".join([b"WEBP", *reduced.values()])
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(data: bytes, at: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields chunks, from a position on: kind, start and end of the content; the end may lie beyond the
    file."""
    part = 0
    while at + 8 <= len(data):
        part += 1
        check_parts(part)
        length, kind = int.from_bytes(data[at + 4 : at + 8], "little"), data[at : at + 4]
        yield kind, at + 8, at + 8 + length
        at += 8 + length + length % 2
