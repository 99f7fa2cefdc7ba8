"""GIF: OpenCV gets one picture that fills the canvas, its colours and its transparency; several are refused.

The canvas takes bytes as the header says, whatever the size of the picture on it.
"""

from brain_ray.data.file_checks.limits import ImageError, StructureError, check_parts, check_single

_PICTURE, _EXTENSION, _END = 0x2C, 0x21, 0x3B
_CONTROL = 0xF9
"""Extension with a picture's transparency; others are texts and programs' own."""


def reduce_gif(data: bytes, max_pixels: int) -> bytes:
    """Returns a GIF with the blocks that its picture needs.

    Raises:
        ImageError: it holds several pictures, or is cut short.
        StructureError: too many blocks, or a picture that does not fill the canvas.
    """
    at = 13 + _palette(data, 10)
    reduced, control, pictures, parts = [data[:at]], b"", 0, 0
    while at < len(data) and data[at] != _END:
        parts += 1
        kind, start = data[at], at
        if (
            kind == _PICTURE
            and pictures == 0
            and (data[at + 1 : at + 5] != bytes(4) or data[at + 5 : at + 9] != data[6:10])
        ):
            raise StructureError("a picture that does not fill the canvas")
        if kind == _PICTURE:
            at += 10 + _palette(data, at + 9) + 1
        elif kind == _EXTENSION:
            at += 2
        else:
            raise ImageError("damaged: a block of GIF that does not exist")
        while at < len(data) and data[at]:
            parts += 1
            at += 1 + data[at]
        check_parts(parts // _BLOCKS_PER_PART)
        if at >= len(data):
            raise ImageError("cut short: a block of GIF ends beyond the file")
        at += 1
        if kind == _PICTURE:
            pictures += 1
            reduced += [control, data[start:at]]
        elif data[start + 1] == _CONTROL:  # `at` is beyond it
            control = data[start:at]
    check_single(pictures, "frames")
    return b"".join([*reduced, bytes([_END])])


_BLOCKS_PER_PART = 16
"""Pixels come in blocks of 255 bytes, each a step of the walk."""


def _palette(data: bytes, at: int) -> int:
    """Returns the number of bytes of the palette that a byte of flags at a position speaks of."""
    flags = data[at] if at < len(data) else 0
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0
