"""A fuzzer of the decoders: takes image files apart, changes their parts and puts them together again.

    PYTHONPATH=tests python -m support.image_fuzzer --seconds 600 --seed 1

Checksums, lengths and offsets are made right again most of the time, so that changes get past the first look:
parts of one file in another, in another order, twice, or with other numbers; other filters and values under
a PNG's compression; other tags, types and counts in a TIFF. Each case follows from the seed and its number.
Cases run in a process of their own, one after another; where it ends, another goes on. Prints what was found,
writes such files to `--keep`, and ends with 1 if a case crashed, raised another error than ImageError, or was
too costly.
"""

import argparse
import io
import itertools
import math
import os
import random
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from support.hostile_images import Made, originals

from brain_ray.config import CropConfig
from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.transforms import Box, find_box, to_input
from brain_ray.input_spec import InputSpec

MAX_PIXELS = 4_000_000
"""Fewer than in use: what is found is the same, and more cases fit into a minute."""

MAX_SECONDS = 3
"""Of CPU for one case."""

MAX_GROWTH = 300_000_000
"""Bytes of memory for one case."""

NUMBERS = (0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 4096, 2**15, 2**16 - 1, 2**24, 2**31 - 1)
NUMBERS += (2**31, 2**32 - 2, 2**32 - 1)

Parts = list[tuple[bytes, bytes]]
"""Kinds and contents."""


@dataclass(frozen=True)
class Format:
    """How a kind of file is taken apart and put together; `kinds` are those of parts that it may have."""

    start: bytes
    split: Callable[[bytes], Parts]
    join: Callable[[random.Random, Parts], bytes]
    kinds: tuple[bytes, ...]


# --- formats ------------------------------------------------------------------------------------------------


def split_png(data: bytes) -> Parts:
    parts, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        parts.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return parts


def join_png(rng: random.Random, parts: Parts) -> bytes:
    made = [b"\x89PNG\r\n\x1a\n"]
    for kind, body in parts:
        checksum = zlib.crc32(kind + body) ^ (rng.random() < 0.02)
        made.append(struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum))
    return b"".join(made)


def split_jpeg(data: bytes) -> Parts:
    """The content of a segment is what follows its length; that of a scan includes its pixels."""
    parts, at = [], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xD9:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        end = at + 2 + length
        if data[at + 1] == 0xDA:
            while end + 1 < len(data) and not (
                data[end] == 0xFF and data[end + 1] not in (0, *range(0xD0, 0xD8))
            ):
                end += 1
        parts.append((data[at : at + 2], data[at + 4 : end]))
        at = end
    return parts


def join_jpeg(rng: random.Random, parts: Parts) -> bytes:
    made = [b"\xff\xd8"]
    for kind, body in parts:
        length = 2 + len(body) if kind != b"\xff\xda" else 6 + 2 * min(body[0] if body else 0, 4)
        made.append(kind + struct.pack(">H", min(length, 65_535)) + body)
    return b"".join(made) + (b"\xff\xd9" if rng.random() < 0.95 else b"")


def split_riff(data: bytes) -> Parts:
    parts, at = [], 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        parts.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return parts


def join_riff(_: random.Random, parts: Parts) -> bytes:
    made = [kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2) for kind, body in parts]
    body = b"WEBP" + b"".join(made)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def split_tiff(data: bytes) -> Parts:
    """The file as it is, then its tags."""
    order = "<" if data.startswith(b"II") else ">"
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    entries = [data[start + 2 + 12 * i : start + 14 + 12 * i] for i in range(count)]
    return [(b"data", data), *((entry[:2], entry[2:]) for entry in entries)]


def join_tiff(rng: random.Random, parts: Parts) -> bytes:
    """Write the tags behind the file, mostly in order."""
    data = next((body for kind, body in parts if kind == b"data"), b"")
    tags = [kind[:2] + body[:10].ljust(10, b"\0") for kind, body in parts if kind != b"data"]
    order = ">" if data.startswith(b"MM") else "<"
    if rng.random() < 0.9:
        tags.sort(key=lambda tag: struct.unpack(f"{order}H", tag[:2]))
    data += bytes(len(data) % 2)
    following = rng.choice(NUMBERS) if rng.random() < 0.1 else 0
    page = struct.pack(f"{order}H", len(tags)) + b"".join(tags) + struct.pack(f"{order}I", following)
    return data[:4] + struct.pack(f"{order}I", len(data)) + data[8:] + page


def split_bmp(data: bytes) -> Parts:
    """Both headers in fields of four bytes, then colours and pixels."""
    end = 14 + int.from_bytes(data[14:18], "little")
    fields = [(b"file", data[2 + 4 * i : 6 + 4 * i]) for i in range(3)]
    fields += [(b"info", data[at : at + 4]) for at in range(14, end, 4)]
    return [*fields, (b"rest", data[end:])]


def join_bmp(_: random.Random, parts: Parts) -> bytes:
    return b"BM" + b"".join(body for _, body in parts)


FORMATS = (
    Format(
        b"\x89PNG",
        split_png,
        join_png,
        (b"acTL", b"fcTL", b"fdAT", b"tRNS", b"PLTE", b"eXIf", b"zTXt", b"iCCP"),
    ),
    Format(b"\xff\xd8", split_jpeg, join_jpeg, tuple(bytes([0xFF, kind]) for kind in range(0xC0, 0xFF))),
    Format(
        b"RIFF",
        split_riff,
        join_riff,
        (b"VP8X", b"ANIM", b"ANMF", b"ALPH", b"VP8 ", b"VP8L", b"EXIF", b"ICCP"),
    ),
    Format(
        b"II*\0", split_tiff, join_tiff, tuple(struct.pack("<H", tag) for tag in (*range(254, 350), 530, 532))
    ),
    Format(
        b"MM\0*", split_tiff, join_tiff, tuple(struct.pack(">H", tag) for tag in (*range(254, 350), 530, 532))
    ),
    Format(b"BM", split_bmp, join_bmp, (b"info", b"rest")),
)


# --- what they start from -----------------------------------------------------------------------------------


@cache
def bases() -> tuple[tuple[Format, tuple[Parts, ...]], ...]:
    """Sound files of each format, taken apart."""
    files = [data for _, data in (*originals(), *_rarer())]
    split = {
        form: tuple(form.split(data) for data in files if data.startswith(form.start)) for form in FORMATS
    }
    return tuple(split.items())


def _rarer() -> list[Made]:
    """Files of kinds that people seldom have: animations, tiles, interlaced, turned."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 4), np.uint8)
    frames = [Image.fromarray(np.roll(noise, shift, 0)) for shift in (0, 9, 19)]
    turned = Image.Exif()
    turned[0x0112] = 6
    made: list[Made] = []

    def save(mode: str, form: str, **options: object) -> None:
        first, *more = [frame.convert(mode) for frame in frames]
        buffer = io.BytesIO()
        animated = {"save_all": True, "append_images": more} if options.pop("animated", False) else {}
        first.save(buffer, form, **animated, **options)
        made.append((f"{form} {mode} {options}", buffer.getvalue()))

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        save(mode, "PNG", animated=True)
        save(mode, "PNG", animated=True, default_image=True)
        save(mode, "PNG", exif=turned, icc_profile=b"profile")
    for mode, lossless in itertools.product(("RGB", "RGBA"), (True, False)):
        save(mode, "WEBP", animated=True, lossless=lossless)
        save(mode, "WEBP", lossless=lossless, exif=turned, icc_profile=b"profile")
    for mode, options in itertools.product(
        ("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_blocks": 2})
    ):
        save(mode, "JPEG", exif=turned, comment=b"text", **options)
    save("RGB", "MPO", animated=True)
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg"):
        for mode in ("L", "RGB", "RGBA", "CMYK", "YCbCr", "P", "F"):
            if (compression, mode) not in (("jpeg", "P"), ("jpeg", "F"), ("jpeg", "RGBA"), ("packbits", "F")):
                save(mode, "TIFF", compression=compression, tiffinfo={278: 8})
    for compression in ("group3", "group4", "tiff_ccitt"):
        save("1", "TIFF", compression=compression)
    save("L", "TIFF", animated=True)
    made += [(f"TIFF, tiles {order}", _tiles(noise[..., 0], order)) for order in "<>"]
    made.append(("PNG, interlaced", _interlaced()))
    made.append(("BMP, run lengths", _run_lengths(noise[..., 0])))
    return made


def _tiles(grey: NDArray[np.uint8], order: str) -> bytes:
    """A picture of 40x50 px in 3x4 tiles of 16x16."""
    padded = np.pad(grey, ((0, 8), (0, 14)))
    packed = [
        zlib.compress(padded[y : y + 16, x : x + 16].tobytes()) for y in (0, 16, 32) for x in (0, 16, 32, 48)
    ]
    places = list(itertools.accumulate(map(len, packed), initial=8))
    body = b"".join(packed)
    body += bytes(len(body) % 2)
    lists = struct.pack(f"{order}24I", *places[:-1], *map(len, packed))
    tags = {256: 50, 257: 40, 258: 8, 259: 8, 262: 1, 277: 1, 322: 16, 323: 16}
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items()]
    entries += [struct.pack(f"{order}HHII", 324 + i, 4, 12, 8 + len(body) + 48 * i) for i in (0, 1)]
    page = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body) + len(lists))
    return head + body + lists + page


def _interlaced() -> bytes:
    passes = ((8, 8), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32))  # of 64x64 px: width, height
    rows = b"".join(
        b"\0" + bytes(range(height, height + width)) for width, height in passes for _ in range(height)
    )
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", 64, 64, 8, 0, 0, 0, 1)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return join_png(random.Random(0), parts)


def _run_lengths(grey: NDArray[np.uint8]) -> bytes:
    """An 8-bit BMP whose rows are runs, literals and jumps."""
    palette = b"".join(bytes([i, i, i, 0]) for i in range(256))
    lines = [
        b"".join(bytes([5, row[x]]) for x in range(0, 40, 5)) + b"\0\x0a" + row[40:].tobytes() for row in grey
    ]
    body = b"\0\0".join(lines) + b"\0\2\3\0\0\1"
    sizes = struct.pack("<IiiHHIIiiII", 40, 50, 40, 1, 8, 1, len(body), 2835, 2835, 256, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 1024 + len(body), 0, 0, 54 + 1024) + sizes + palette + body


# --- changes ------------------------------------------------------------------------------------------------


def make(seed: int, number: int) -> bytes:
    """Make a case."""
    rng = random.Random(f"{seed} {number}")
    form, files = rng.choice(bases())
    parts = list(rng.choice(files))
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        if parts:
            rng.choice((_change, _change, _change, _rearrange))(rng, form, parts, rng.choice(files))
    made = form.join(rng, parts)
    return _bytes(rng, made) if rng.random() < 0.1 else made


def _change(rng: random.Random, form: Format, parts: Parts, _: Parts) -> None:
    """Change the content of a part."""
    i = rng.randrange(len(parts))
    kind, body = parts[i]
    if form.start == b"\x89PNG" and kind in (b"IDAT", b"fdAT") and rng.random() < 0.8:
        head = body[:4] if kind == b"fdAT" else b""
        body = head + _under_compression(rng, body[len(head) :])
    elif kind == b"ANMF" and rng.random() < 0.5:
        inner = list(split_riff(body[4:]))  # a frame's header is 16 bytes long, that of a file 12
        if inner:
            j = rng.randrange(len(inner))
            inner[j] = inner[j][0], _bytes(rng, inner[j][1])
        body = body[:16] + join_riff(rng, inner)[12:]
    else:
        body = _bytes(rng, body)
    parts[i] = kind, body


def _under_compression(rng: random.Random, packed: bytes) -> bytes:
    """Change what a stream unpacks to: filters of rows are among its bytes."""
    try:
        rows = bytearray(zlib.decompressobj().decompress(packed, 2**20))
    except zlib.error:
        return packed
    for _ in range(rng.choice((1, 1, 4))):
        if rows:
            rows[rng.choice((0, rng.randrange(len(rows))))] = rng.choice((0, 4, 5, 9, 255))
    length = rng.choice((len(rows), len(rows), len(rows) // 2, 2 * len(rows)))
    return zlib.compress(bytes(rows[:length]).ljust(length, b"\0"), 1)


def _rearrange(rng: random.Random, form: Format, parts: Parts, other: Parts) -> None:
    """Drop, repeat, move or rename a part, or take one from another file."""
    i, j = rng.randrange(len(parts)), rng.randrange(len(parts) + 1)
    match rng.randrange(6):
        case 0:
            del parts[i]
        case 1:
            parts[j:j] = [parts[i]] * rng.choice((1, 1, 2, 30))
        case 2:
            parts.insert(j - 1 if j else 0, parts.pop(i))
        case 3:
            parts[i] = rng.choice(form.kinds), parts[i][1]
        case 4:
            parts.insert(j, rng.choice(other))
        case 5:
            parts.insert(j, (rng.choice(form.kinds), rng.randbytes(rng.choice((0, 1, 4, 10, 26, 100)))))


def _bytes(rng: random.Random, body: bytes) -> bytes:
    """Change a number, some bits, or the length of a part."""
    changed = bytearray(body)
    at = rng.randrange(min(len(changed), rng.choice((16, 64, len(changed) or 1))) or 1)
    match rng.randrange(5):
        case 0 | 1:
            width = rng.choice("BHI")
            packed = struct.pack(
                rng.choice("<>") + width, rng.choice(NUMBERS) % 256 ** struct.calcsize(width)
            )
            changed[at : at + len(packed)] = packed
        case 2:
            for _ in range(rng.choice((1, 2, 8))):
                if changed:
                    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        case 3:
            del changed[at : at + rng.choice((1, 2, 4, 50))]
        case 4:
            changed[at:at] = changed[at : at + rng.choice((1, 4, 12, 200))] or b"\0"
    return bytes(changed)


# --- the hunt -----------------------------------------------------------------------------------------------


@dataclass
class Found:
    """What came of the cases: how often each ending, and the numbers of those that should not be."""

    endings: Counter[str] = field(default_factory=Counter)
    faults: list[tuple[int, str]] = field(default_factory=list)


def hunt(seed: int, count: float = math.inf, seconds: float = math.inf) -> Found:
    """Run cases of a seed until there were so many, or so much time has gone."""
    cv2.setNumThreads(1)  # a fork of a process with others would wait for them
    bases()
    found, number, end = Found(), 0, time.monotonic() + seconds
    while number < count and time.monotonic() < end:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(reader)
                _run(seed, number, count, end, os.fdopen(writer, "w", buffering=1))
            finally:
                os._exit(70)  # not back into the hunt
        os.close(writer)
        with os.fdopen(reader) as told:
            for line in told:
                done, _, ending = line.rstrip("\n").partition(" ")
                number = int(done) + 1
                found.endings[ending.partition(":")[0]] += 1
                if ending.partition(":")[0] == "fault":
                    found.faults.append((int(done), ending))
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if status:  # it ended at the case after the last that it told of
            name = signal.Signals(-status).name if status < 0 else f"exit {status}"
            found.endings["crash"] += 1
            found.faults.append((number, f"crash: {name}"))
            number += 1
    return found


def _run(seed: int, first: int, count: float, end: float, told: io.TextIOBase) -> None:
    """Run cases in this process, which ends here."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libpng writes of each damaged file
    for number in itertools.count(first):
        if number >= count or time.monotonic() > end:
            os._exit(0)
        data = make(seed, number)
        signal.alarm(20 * MAX_SECONDS)
        told.write(f"{number} {_ending(data)}\n")
        signal.alarm(0)


def _ending(data: bytes) -> str:
    started, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        image = decode(data, MAX_PIXELS)
        fed = to_input(image, find_box(image, CropConfig()) or Box.whole(image), InputSpec(32, 32))
        assert (image.dtype, image.ndim, fed.shape) == (np.uint8, 2, (32, 32, 1))
        assert image.size <= MAX_PIXELS
        ending = "image"
    except ImageError as error:
        ending = error.code
    except Exception as error:
        return f"fault: {error!r}".replace("\n", " ")
    taken = time.process_time() - started
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if taken > MAX_SECONDS or grown > MAX_GROWTH:
        return f"fault: {ending} after {taken:.1f} s and {grown / 1e6:.0f} MB"
    return ending


def main() -> int:
    """Hunt, print and keep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for the files that should not end as they did")
    options = parser.parse_args()
    found = hunt(options.seed, seconds=options.seconds)
    print(f"{found.endings.total()} cases of seed {options.seed}: {dict(found.endings)}")
    for number, ending in found.faults:
        data = make(options.seed, number)
        print(f"case {number}, {len(data)} bytes, {data[:4]!r}: {ending}")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{options.seed}-{number}").write_bytes(data)
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
