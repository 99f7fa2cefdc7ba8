"""Hostile uploads: images that lie, break off or blow up, and what is no image at all. A seed fixes them."""

import io
import itertools
import random
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from brain_ray.data.phantoms.files import draw

CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
TYPES = {
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".webp": "image/webp",
}
Made = tuple[str, bytes]
Maker = Callable[[random.Random], Made]


def mutants(count: int, seed: int) -> Iterator[Made]:
    """Yield (what it is, its bytes), all kinds in turn, the common ones more often."""
    rng = random.Random(seed)
    kinds = itertools.cycle(_KINDS)
    for _ in range(count):
        kind = next(kinds)
        name, data = kind(rng)
        yield f"{kind.__name__}: {name}", data


def media_type(data: bytes) -> str:
    """Return what an honest sender would call it."""
    starts = {
        b"\xff\xd8": ".jpg",
        b"\x89PNG": ".png",
        b"BM": ".bmp",
        b"II": ".tif",
        b"MM": ".tif",
        b"RIFF": ".webp",
    }
    return next((TYPES[suffix] for start, suffix in starts.items() if data.startswith(start)), "image/gif")


@cache
def _picture(number: int) -> NDArray[np.uint8]:
    drawn = draw(CLASSES[number % 4], 11, number)
    grey = drawn if drawn.ndim == 2 else drawn[..., 0]
    return cv2.resize(grey, (96 + 16 * number, 128))


@cache
def originals() -> tuple[Made, ...]:
    """Phantoms in every format, depth and channel count: (what it is, its bytes); all can be decoded."""
    made: list[Made] = []
    for number, suffix in enumerate(TYPES):
        grey = _picture(number)
        colour = cv2.applyColorMap(grey, cv2.COLORMAP_BONE)
        alpha = np.dstack([colour, grey])
        made += [(f"grey{suffix}", _encode(suffix, grey)), (f"colour{suffix}", _encode(suffix, colour))]
        if suffix in (".png", ".tif", ".webp"):
            made.append((f"alpha{suffix}", _encode(suffix, alpha)))
        if suffix in (".png", ".tif"):
            deep = grey.astype(np.uint16) * 257
            made += [
                (f"16 bit{suffix}", _encode(suffix, deep)),
                (f"16 bit colour{suffix}", _encode(suffix, np.dstack([deep] * 3))),
            ]
    picture = Image.fromarray(_picture(0))
    for name, mode, form, options in (
        ("CMYK.jpg", "CMYK", "JPEG", {}),
        ("progressive.jpg", "RGB", "JPEG", {"progressive": True}),
        ("palette.png", "P", "PNG", {}),
        ("one bit.png", "1", "PNG", {}),
        ("one bit.bmp", "1", "BMP", {}),
        ("palette.bmp", "P", "BMP", {}),
        ("packbits.tif", "L", "TIFF", {"compression": "packbits"}),
        ("deflate.tif", "L", "TIFF", {"compression": "tiff_adobe_deflate"}),
        ("jpeg.tif", "RGB", "TIFF", {"compression": "jpeg"}),
        ("group 4.tif", "1", "TIFF", {"compression": "group4"}),
        ("lossless.webp", "RGB", "WEBP", {"lossless": True}),
        ("grey.gif", "L", "GIF", {}),
        ("grey.pgm", "L", "PPM", {}),
        ("grey.jp2", "L", "JPEG2000", {}),
        ("colour.j2k", "RGB", "JPEG2000", {"no_jp2": True, "irreversible": True}),
    ):
        made.append((name, _save(picture.convert(mode), form, **options)))
    made.append(("float.tif", _encode(".tif", _picture(1).astype(np.float32) / 255)))
    return tuple(made)


def _encode(suffix: str, image: NDArray[np.generic]) -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def _save(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _png(width: int, height: int, pixels: bytes, depth: int = 8, colour: int = 0, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + b"".join(more)
        + _chunk(b"IDAT", pixels)
        + _chunk(b"IEND", b"")
    )


# --- what damages happen to files ---------------------------------------------------------------------------


def truncated(rng: random.Random) -> Made:
    name, data = rng.choice(originals())
    kept = rng.choice(
        [rng.randrange(len(data)), rng.randrange(min(64, len(data))), len(data) - rng.randint(1, 32)]
    )
    return f"{name}, {kept} of {len(data)} bytes", data[:kept]


def flipped_bits(rng: random.Random) -> Made:
    name, data = rng.choice(originals())
    changed = bytearray(data)
    end = rng.choice([64, 512, len(data)])  # headers more often than pixels
    places = [rng.randrange(min(end, len(data))) for _ in range(rng.choice([1, 2, 8, 64]))]
    for place in places:
        changed[place] ^= 1 << rng.randrange(8)
    return f"{name}, {len(places)} bits among the first {end}", bytes(changed)


def overwritten(rng: random.Random) -> Made:
    name, data = rng.choice(originals())
    start = rng.randrange(len(data))
    length = rng.choice([1, 2, 4, 16, 256])
    fill = rng.choice([b"\0" * length, b"\xff" * length, b"\x7f\xff\xff\xff" * length, rng.randbytes(length)])
    changed = data[:start] + fill[:length] + data[start + length :]
    return f"{name}, {length} bytes from {start}", changed


def spliced(rng: random.Random) -> Made:
    (first, head), (second, tail) = rng.choice(originals()), rng.choice(originals())
    cut = rng.randrange(len(head))
    return f"{first} up to {cut}, then {second}", head[:cut] + tail[rng.randrange(len(tail)) :]


# --- headers that lie ---------------------------------------------------------------------------------------

SIZES = (0, 1, 15, 16, 17, 95, 97, 255, 4_000, 20_000, 40_000, 65_535, 2**24, 2**31 - 1, 2**31, 2**32 - 1)


def png_sizes(rng: random.Random) -> Made:
    _, data = rng.choice([made for made in originals() if made[0].endswith(".png")])
    width, height = rng.choice(SIZES), rng.choice(SIZES)
    rest = (
        data[24:29]
        if rng.random() < 0.7
        else bytes(rng.choice([0, 1, 2, 3, 4, 6, 8, 16, 255]) for _ in range(5))
    )
    header = struct.pack(">II", width, height) + rest
    return f"{width}x{height} {rest.hex()}", data[:8] + _chunk(b"IHDR", header) + data[33:]


def png_lengths(rng: random.Random) -> Made:
    _, data = rng.choice([made for made in originals() if made[0].endswith(".png")])
    place = data.index(b"IDAT") - 4
    length = rng.choice(SIZES)
    return f"IDAT of {length}", data[:place] + struct.pack(">I", length % 2**32) + data[place + 4 :]


def bmp_sizes(rng: random.Random) -> Made:
    _, data = rng.choice([made for made in originals() if made[0].endswith(".bmp")])
    changed = bytearray(data)
    width, height = rng.choice(SIZES), rng.choice([*SIZES, 2**32 - 128])  # the last is -128: top to bottom
    struct.pack_into("<II", changed, 18, width, height)
    if rng.random() < 0.3:
        struct.pack_into("<H", changed, 28, rng.choice([0, 1, 2, 4, 8, 16, 24, 32, 64]))
    if rng.random() < 0.3:
        struct.pack_into("<I", changed, rng.choice([10, 14, 30, 34, 46]), rng.choice(SIZES))
    return f"{width}x{height}", bytes(changed)


def tiff_tags(rng: random.Random) -> Made:
    """Change the value, the count or the type of some tags, sizes and offsets of the strips among them."""
    name, data = rng.choice([made for made in originals() if made[0].endswith(".tif")])
    changed = bytearray(data)
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (number,) = struct.unpack_from(f"{order}H", data, start)
    tags = []
    for _ in range(rng.choice([1, 1, 2, 4])):
        entry = start + 2 + 12 * rng.randrange(number)
        (tag,) = struct.unpack_from(f"{order}H", data, entry)
        part, code = rng.choice([(8, "I"), (8, "H"), (4, "I"), (2, "H"), (0, "H")])
        struct.pack_into(
            f"{order}{code}", changed, entry + part, rng.choice(SIZES) % (2**16 if code == "H" else 2**32)
        )
        tags.append(tag)
    return f"{name}, tags {tags}", bytes(changed)


def tiff_loops(rng: random.Random) -> Made:
    name, data = rng.choice([made for made in originals() if made[0].endswith(".tif")])
    changed = bytearray(data)
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (number,) = struct.unpack_from(f"{order}H", data, start)
    struct.pack_into(f"{order}I", changed, start + 2 + 12 * number, rng.choice([start, 0, 8, len(data) - 1]))
    return f"{name}, its next page is itself", bytes(changed)


def jpeg_sizes(rng: random.Random) -> Made:
    name, data = rng.choice([made for made in originals() if made[0].endswith(".jpg")])
    marker = next(place for place in (data.find(b"\xff\xc0"), data.find(b"\xff\xc2")) if place > 0)
    changed = bytearray(data)
    height, width = (rng.choice([size for size in SIZES if size < 2**16]) for _ in range(2))
    struct.pack_into(">HH", changed, marker + 5, height, width)
    if rng.random() < 0.2:
        changed[marker + rng.choice([1, 4, 9, 10, 11])] = rng.randrange(256)
    return f"{name}, {width}x{height}", bytes(changed)


def webp_sizes(rng: random.Random) -> Made:
    name, data = rng.choice([made for made in originals() if made[0].endswith(".webp")])
    changed = bytearray(data)
    for _ in range(rng.choice([1, 2, 4])):
        changed[rng.randrange(4, 34)] = rng.randrange(256)
    return name, bytes(changed)


# --- bombs --------------------------------------------------------------------------------------------------


def tiny_bomb(rng: random.Random) -> Made:
    width, height = rng.choice([(40_000, 40_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 16), (16, 2**31 - 1)])
    return f"PNG, {width}x{height}", _png(width, height, zlib.compress(b"\0" * 9))


@cache
def _zeros(width: int, height: int) -> bytes:
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    return b"".join(packer.compress(row) for _ in range(height)) + packer.flush()


def real_bomb(rng: random.Random) -> Made:
    """All its pixels are there; the second is just within 40 million pixels, the third just not."""
    width, height = rng.choice([(20_000, 20_000), (6_324, 6_324), (6_400, 6_400), (2_500_000, 16)])
    return f"PNG, {width}x{height} zeros", _png(width, height, _zeros(width, height))


def text_bomb(rng: random.Random) -> Made:
    packed = zlib.compress(b"\0" * 60_000_000, 9) if rng.random() < 0.02 else _million()
    kind = rng.choice([b"zTXt", b"iCCP", b"iTXt"])
    start = b"name\0\0" if kind != b"iTXt" else b"name\0\1\0\0\0"
    rows = zlib.compress((b"\0" + b"\x80" * 32) * 32)
    return f"PNG, {kind.decode()}", _png(32, 32, rows, 8, 0, _chunk(kind, start + packed))


@cache
def _million() -> bytes:
    return zlib.compress(b"\0" * 1_000_000, 9)


def endless_pixels(rng: random.Random) -> Made:
    """A small picture whose pixels unpack to far more than it has room for."""
    return "PNG, 64x64 with 400 million zeros", _png(64, 64, _zeros(20_000, 20_000))


@cache
def _progressive() -> bytes:
    return _save(Image.new("L", (3_000, 3_000)), "JPEG", progressive=True)


def many_scans(rng: random.Random) -> Made:
    """Each scan is a few bytes long, and costs the decoder one walk over all pixels."""
    data = _progressive()
    scans = rng.choice([10, 50_000])
    return f"progressive JPEG, {scans} scans more", data[:-2] + data[
        data.rindex(b"\xff\xda") : -2
    ] * scans + data[-2:]


def frame_sizes(rng: random.Random) -> Made:
    """An animated PNG or WebP whose frames lie outside their canvas, or unpack to more."""
    width, height = rng.choice(SIZES), rng.choice(SIZES)
    if rng.random() < 0.5:
        control = struct.pack(">IIIIIHHBB", 0, width, height, rng.choice([0, 5, 2**31]), 0, 1, 10, 0, 0)
        more = [_chunk(b"acTL", struct.pack(">II", rng.choice([1, 2, 2**31]), 0)), _chunk(b"fcTL", control)]
        data = _png(64, 64, zlib.compress(b"\0" * 65 * 64), 8, 0, *more)
        frame = _chunk(b"fcTL", b"\0\0\0\1" + control[4:]) + _chunk(
            b"fdAT", b"\0\0\0\2" + _zeros(20_000, 20_000)
        )
        return f"PNG, frames of {width}x{height}", data[:-12] + frame + data[-12:]
    inner = _save(Image.fromarray(_picture(0)).convert("RGB"), "WEBP", lossless=True)[12:]
    canvas = (
        b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + _three(rng.choice(SIZES)) + _three(rng.choice(SIZES))
    )
    frame = _three(0) * 2 + _three(width) + _three(height) + b"\1\0\0\0" + inner
    body = (
        b"WEBP"
        + canvas
        + b"ANIM"
        + struct.pack("<IIH", 6, 0, 0)
        + b"ANMF"
        + struct.pack("<I", len(frame))
        + frame
    )
    return f"WebP, frames of {width}x{height}", b"RIFF" + struct.pack("<I", len(body)) + body


def _three(value: int) -> bytes:
    return struct.pack("<I", (value - 1) % 2**24)[:3]


def shared_values(rng: random.Random) -> Made:
    """Tags that all refer to the same long value, in a TIFF or in the EXIF block of another format."""
    number, length = rng.choice([(1_900, 2_000_000), (20_000, 500_000), (3, 100)])
    kind = rng.choice([1, 2, 3, 5, 7, 12, 99])
    form = rng.choice(["TIFF", "PNG", "WEBP"])
    tag = 40_000 if form == "TIFF" else 0x010E
    tags = struct.pack("<HHII", tag, kind, length // 8, 20 + 12 * number) * number
    block = b"II*\0" + struct.pack("<IH", 8, number) + tags + b"\0" * (length + 32)
    name = f"{form}, {number} tags share {length} bytes"
    if form == "TIFF":
        return name, block
    if form == "PNG":
        return name, _png(32, 32, zlib.compress(b"\0" * 33 * 32), 8, 0, _chunk(b"eXIf", block))
    return name, _save(Image.new("RGB", (32, 32)), form, lossless=True, exif=block)


def many_parts(rng: random.Random) -> Made:
    number = rng.choice([100, 300_000])
    if rng.random() < 0.5:
        chunk = rng.choice([_chunk(b"tEXt", b"a\0b"), _chunk(b"IDAT", b""), _chunk(b"abCd", b"")])
        return f"PNG, {number} chunks", _png(32, 32, zlib.compress(b"\0" * 33 * 32), 8, 0, chunk * number)
    data = _save(Image.new("L", (64, 64)), "JPEG")
    segment = rng.choice([b"\xff\xfe\0\2", b"\xff", b"\xff\0", b"\xff\xed\0\x10Photoshop 3.0\0"])
    return f"JPEG, {number} times {segment[:3].hex()}", data[:2] + segment * number + data[2:]


def deep_tiff(rng: random.Random) -> Made:
    depth = rng.choice([1, 7, 12, 32, 64, 128, 2**15, 2**16 - 1])
    samples = rng.choice([1, 3, 5, 255, 2**16 - 1])
    side = rng.choice([32, 6_000])
    return f"TIFF, {side} px, {depth} bit, {samples} samples", _tiff(side, side, depth, samples, b"\0" * 4096)


def _tiff(width: int, height: int, depth: int, samples: int, pixels: bytes, kind: int = 1) -> bytes:
    tags = [(256, 4, width), (257, 4, height), (258, 3, depth), (259, 3, 1), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, samples), (278, 4, height), (279, 4, len(pixels)), (339, 3, kind)]
    entries = b"".join(struct.pack("<HHII", tag, form, 1, value) for tag, form, value in tags)
    return (
        b"II*\0"
        + struct.pack("<I", 8 + len(pixels))
        + pixels
        + struct.pack("<H", len(tags))
        + entries
        + b"\0" * 4
    )


# --- files that kept a decoder busy for seconds, took gigabytes, or ended its process -----------------------


def costly(rng: random.Random) -> Made:
    return rng.choice(all_costly())


@cache
def all_costly() -> tuple[Made, ...]:
    """Each of them once."""
    small = _save(Image.new("L", (64, 64), 90), "JPEG")
    exif = _segment(0xE1, b"Exif\0\0" + bytes(994))
    resources = _segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5000)
    tables = _segment(0xDB, (b"\0" + bytes([1] * 64)) * 1000)
    text = _chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * 7_900_000, 9))
    rows, deep = _zeros(64, 64), _zeros(8 * 6_320, 6_320)
    dots = np.zeros((6_320, 6_320), np.uint8)
    dots[(np.arange(6_320) % 8 < 5)[:, None] & (np.arange(6_320) % 8 < 5)] = 255
    made = {
        "PNG, 2 GB of texts after its pixels": _png(64, 64, rows)[:-12] + text * 250 + _chunk(b"IEND", b""),
        "PNG, a frame with a filter that there is not": _animation(
            64, rows, zlib.compress((b"\t" + bytes(64)) * 64)
        ),
        "PNG, frames of 16 bits and 40 million pixels": _animation(6_320, deep, deep, depth=16, colour=6),
        "PNG, 620,000 specks": _encode(".png", dots),
        "JPEG, 10,000 EXIF segments": small[:2] + exif * 10_000 + small[2:],
        "JPEG, 300 Photoshop segments": small[:2] + resources * 300 + small[2:],
        "JPEG, 300,000 tables": small[:2] + tables * 300 + small[2:],
        "JPEG, two million comments after its end": small[:2] + b"\xff\xd9" + _segment(0xFE) * 2_000_000,
        "JPEG, 99 scans over 40 million pixels": _scans(6_320, 99, 0xC2),
        "JPEG, 99 arithmetic scans": _scans(6_320, 99, 0xCA),
        "TIFF, 99 scans": _tiff_of(64, 64, 7, _scans(6_320, 99, 0xC2), {256: 6_320, 257: 6_320, 278: 6_320}),
        "TIFF, 99 arithmetic scans": _tiff_of(6_320, 6_320, 7, _scans(6_320, 99, 0xCA)),
        "TIFF, a tile of 144 million pixels": _tiff_of(64, 64, 8, _zeros(12_000, 12_000), tile=12_000),
        "TIFF, two million strips": _tiff_of(64, 64, 1, bytes(8_000_000), {273: 2_000_000, 278: 1}),
        "TIFF, a million strips, none there": _tiff_of(16, 1_000_000, 8, zlib.compress(bytes(16)), {278: 1}),
        "TIFF, strips that share their bytes": _sharing_strips(60_000, 10_000_000),
        "WebP, a frame of 16 pixels on a canvas of 40 million": _canvas(16_383, 2_441),
    }
    return tuple(made.items())


def _animation(side: int, picture: bytes, frame: bytes, depth: int = 8, colour: int = 0) -> bytes:
    """An animated PNG whose default image is none of its two frames."""

    def control(number: int) -> bytes:
        return _chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, side, side, 0, 0, 1, 10, 0, 0))

    animated = _chunk(b"acTL", struct.pack(">II", 2, 0))
    frames = [control(n) + _chunk(b"fdAT", struct.pack(">I", n + 1) + frame) for n in (0, 2)]
    still = _png(side, side, picture, depth, colour, animated)
    return still[:-12] + b"".join(frames) + still[-12:]


def _segment(kind: int, body: bytes = b"") -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


@cache
def _scans(side: int, number: int, kind: int) -> bytes:
    """A progressive JPEG of empty scans: each code says that many thousand blocks have nothing more."""
    start = b"\xff\xd8" + _segment(0xDB, b"\0" + bytes([1] * 64))
    start += _segment(kind, struct.pack(">BHHB", 8, side, side, 1) + b"\1\x11\0")
    start += _segment(
        0xC4, b"\x10\1" + bytes(15) + b"\xe0"
    )  # one code of one bit: a run of 2**14 blocks and more
    bits = ("0" + "1" * 14) * (side * side // 64 // 32_767 + 2)
    packed = (
        int(bits + "1" * (-len(bits) % 8), 2).to_bytes(-(-len(bits) // 8), "big").replace(b"\xff", b"\xff\0")
    )
    return start + (_segment(0xDA, b"\1\1\0\1\x3f\x10") + packed) * number + b"\xff\xd9"


def _tiff_of(
    width: int,
    height: int,
    compression: int,
    body: bytes,
    changed: dict[int, int] | None = None,
    tile: int = 0,
) -> bytes:
    """A TIFF of one strip or tile, with some tags changed: their value, or the number of strips (273)."""
    tags = {256: width, 257: height, 258: 8, 259: compression, 262: 1, 277: 1, 278: height, 279: len(body)}
    if tile:
        tags = {tag: value for tag, value in tags.items() if tag not in (278, 279)}
        tags |= {322: tile, 323: tile, 324: 8, 325: len(body)}
    tags |= changed or {}
    places = {} if tile else {273: (tags.get(273, 1), 8)}
    entries = {tag: (1, value) for tag, value in tags.items()} | places
    return _one_page(body + bytes(len(body) % 2), entries)


def _one_page(body: bytes, entries: dict[int, tuple[int, int]]) -> bytes:
    """A TIFF of one page: its header, the body, and behind it each tag with its count and its value."""
    packed = b"".join(struct.pack("<HHII", tag, 4, *entry) for tag, entry in sorted(entries.items()))
    head = b"II*\0" + struct.pack("<I", 8 + len(body))
    return head + body + struct.pack("<H", len(entries)) + packed + bytes(4)


def _sharing_strips(number: int, length: int) -> bytes:
    lists = struct.pack(f"<{number}I", *[8] * number) + struct.pack(f"<{number}I", *[length // 10] * number)
    body = zlib.compress(bytes(16)).ljust(length, b"\0") + lists
    entries = {
        256: (1, 16),
        257: (1, number),
        258: (1, 8),
        259: (1, 8),
        262: (1, 1),
        273: (number, 8 + length),
    }
    entries |= {277: (1, 1), 278: (1, 1), 279: (number, 8 + length + 4 * number)}
    return _one_page(body, entries)


def _canvas(width: int, height: int) -> bytes:
    inner = _save(Image.new("RGB", (16, 16), (90, 90, 90)), "WEBP", lossless=True)[12:]
    frame = bytes(6) + _three(16) * 2 + b"\1\0\0\0" + inner
    body = b"WEBPVP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + _three(width) + _three(height)
    body += b"ANIM" + struct.pack("<IIH", 6, 0, 0) + b"ANMF" + struct.pack("<I", len(frame)) + frame
    return b"RIFF" + struct.pack("<I", len(body)) + body


# --- odd but true images ------------------------------------------------------------------------------------


def not_finite(rng: random.Random) -> Made:
    kind = rng.choice([np.float32, np.float64])
    values = np.random.default_rng(rng.randrange(2**32)).normal(size=(40, 50)).astype(kind)
    values[3, 4] = rng.choice([np.nan, np.inf, -np.inf, np.finfo(kind).max])
    values[5, 6] = rng.choice([0.0, -np.finfo(kind).max])
    return f"TIFF, {kind.__name__} with {values[3, 4]}", _encode(".tif", values)


def huge_exif(rng: random.Random) -> Made:
    exif = Image.Exif()
    exif[0x0112] = rng.choice([0, 1, 6, 8, 9, 255, 65_535])
    exif[0x010E] = "x" * rng.choice([0, 60_000])
    data = _save(Image.fromarray(_picture(2)), "JPEG", exif=exif)
    junk = b"".join(b"\xff\xe1\xff\xff" + rng.randbytes(65_533) for _ in range(rng.choice([1, 20])))
    return f"JPEG, {len(junk)} bytes of EXIF", data[:2] + junk + data[2:]


def exif_junk(rng: random.Random) -> Made:
    block = b"Exif\0\0" + rng.choice([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b"II*\0\xff\xff\xff\xff", b""])
    block += struct.pack("<H", rng.choice([1, 65_535])) + rng.randbytes(rng.choice([0, 12, 4000]))
    form, suffix = rng.choice([("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")])
    return suffix, _save(Image.fromarray(_picture(3)), form, exif=block)


def icc_junk(rng: random.Random) -> Made:
    profile = rng.randbytes(rng.choice([1, 128, 3000, 200_000]))
    form = rng.choice(["JPEG", "PNG", "TIFF", "WEBP"])
    return form, _save(Image.fromarray(_picture(1)).convert("RGB"), form, icc_profile=profile)


def many_frames(rng: random.Random) -> Made:
    frames = [Image.fromarray(np.roll(_picture(0), shift, 0)) for shift in range(rng.choice([2, 20]))]
    form = rng.choice(["TIFF", "GIF", "WEBP", "PNG"])
    return f"{form}, {len(frames)} frames", _save(frames[0], form, save_all=True, append_images=frames[1:])


def odd_sides(rng: random.Random) -> Made:
    width, height = rng.choice([(1, 1), (15, 400), (16, 16), (16, 5000), (5000, 17), (3, 3), (640, 480)])
    suffix = rng.choice(list(TYPES))
    return f"{width}x{height}{suffix}", _encode(
        suffix, np.full((height, width), rng.randrange(256), np.uint8)
    )


def four_channels(rng: random.Random) -> Made:
    mode, form = rng.choice(
        [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("YCbCr", "JPEG"), ("LA", "PNG")]
    )
    picture = Image.fromarray(_picture(2)).convert(
        "RGB" if mode == "YCbCr" else mode if mode != "LAB" else "RGB"
    )
    if mode == "LAB":
        picture = Image.merge("LAB", picture.split())
    return f"{mode} {form}", _save(picture, form)


# --- what is no image, or not only --------------------------------------------------------------------------


def polyglot(rng: random.Random) -> Made:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(zipfile.ZipInfo("../../evil.py"), "print(1)")
    name, data = rng.choice(originals())
    tail = rng.choice(
        [archive.getvalue(), b"<script>alert(1)</script>", b"<?php system('id'); ?>", b"\0" * 1_000_000]
    )
    return f"{name} and more", data + tail


def header_and_script(rng: random.Random) -> Made:
    head = rng.choice(
        [
            b"GIF89a",
            b"GIF87a\x40\0\x40\0",
            b"BM",
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"II*\0",
            b"MM\0*",
        ]
    )
    return head.hex(), head + b"/*<script>alert(document.cookie)</script>*/=1;" * rng.choice([1, 50])


def other_files(rng: random.Random) -> Made:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(zipfile.ZipInfo("bomb"), b"\0" * 1_000_000, zipfile.ZIP_DEFLATED)
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script><image href="file:///etc/passwd"/></svg>'
    entities = b'<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><svg>&b;</svg>'
    kinds = {
        "svg": svg,
        "svg with entities": entities,
        "zip": archive.getvalue(),
        "pdf": b"%PDF-1.7\n1 0 obj<</Type/Catalog/OpenAction<</S/JavaScript/JS(alert(1))>>>>endobj\n%%EOF",
        "html": b"<!doctype html><html><body onload=alert(1)>",
        "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/etc/passwd)(r)file\n%%EOF",
        "pnm": b"P5 40000 40000 255\n" + bytes(100),
        "pickle": b"cos\nsystem\n(S'true'\ntR.",
        "text": "Bild".encode("utf-16"),
        "dicom": b"\0" * 128 + b"DICM" + rng.randbytes(200),
        "icns": b"icns\0\0\0\x10ic07\0\0\0\x08",
        "psd": b"8BPS\0\1" + b"\0" * 6 + struct.pack(">HIIHH", 3, 30_000, 30_000, 8, 3) + bytes(64),
        "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n" + rng.randbytes(100),
        "exr": b"v/1\x01\x02\0\0\0" + rng.randbytes(100),
        "hdr": b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 40000 +X 40000\n" + bytes(64),
        "avif": b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf" + rng.randbytes(200),
        "sun raster": struct.pack(">8I", 0x59A66A95, 30_000, 30_000, 8, 100, 1, 0, 0) + bytes(64),
    }
    name = rng.choice(list(kinds))
    return name, kinds[name]


def nothing_much(rng: random.Random) -> Made:
    length = rng.choice([0, 0, 1, 2, 7, 100, 5000])
    return f"{length} random bytes", rng.randbytes(length)


def untouched(rng: random.Random) -> Made:
    return rng.choice(originals())


_COMMON: tuple[Maker, ...] = (
    truncated,
    flipped_bits,
    overwritten,
    tiff_tags,
    png_sizes,
    jpeg_sizes,
    bmp_sizes,
    webp_sizes,
)
_KINDS: tuple[Maker, ...] = (
    *_COMMON, spliced, png_lengths, tiny_bomb, text_bomb, huge_exif, exif_junk, icc_junk,
    *_COMMON, many_frames, odd_sides, four_channels, polyglot, header_and_script, other_files, nothing_much,
    *_COMMON, deep_tiff, not_finite, tiff_loops, untouched,
    *_COMMON, real_bomb, endless_pixels, many_scans, frame_sizes, shared_values, many_parts, costly,
)  # fmt: skip
