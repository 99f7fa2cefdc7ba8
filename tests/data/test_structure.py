"""Files that would cost a decoder seconds or gigabytes are refused for what they are made of."""

import io
import struct
import time
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from brain_ray.data.images import ImageError, decode
from brain_ray.data.structure import MAX_SCANS, UNCHECKED, find_fault


def png(side: int, pixels: bytes, parts: int = 1) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    size = -(-len(pixels) // parts)
    made = [chunk(b"IDAT", pixels[start : start + size]) for start in range(0, len(pixels), size)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(made) + chunk(b"IEND", b"")


def shared(number: int, length: int) -> bytes:
    """A TIFF block whose tags all refer to the same text."""
    tag = struct.pack("<HHII", 0x010E, 2, length, 14 + 12 * number)
    return b"II*\0" + struct.pack("<IH", 8, number) + tag * number + b"\0" * 4 + b"x" * length


def progressive(more_scans: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 99).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * more_scans + data[-2:]


def test_a_part_of_a_png_is_not_longer_than_the_file() -> None:
    data = bytearray(cv2.imencode(".png", np.eye(64, dtype=np.uint8) * 255)[1].tobytes())
    struct.pack_into(">I", data, data.index(b"IDAT") - 4, 2**32 - 1)
    start = time.perf_counter()
    with pytest.raises(ImageError, match=r"damaged: a part of 4294967295 bytes, of which \d+ are there"):
        decode(bytes(data))
    assert time.perf_counter() - start < 0.5, "the decoder would make room for 4 GB"


@pytest.mark.parametrize("parts", [1, 50])
def test_a_png_does_not_unpack_to_more_than_its_size(parts: int) -> None:
    bomb = zlib.compress(b"\0" * 600_000_000, 1)
    assert len(bomb) > UNCHECKED
    start = time.process_time()
    with pytest.raises(ImageError, match="damaged: its pixels unpack to more than it has room for"):
        decode(png(64, bomb, parts))
    assert time.process_time() - start < 0.5


def test_a_large_png_of_noise_is_none_the_worse_for_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (900, 1000, 4), dtype=np.uint8)
    for image in (noise, noise[..., 0], noise.astype(np.uint16) * 257):
        data = cv2.imencode(".png", image)[1].tobytes()
        assert len(data) > UNCHECKED
        assert decode(data).shape == (900, 1000)


def test_a_jpeg_has_a_bounded_number_of_scans() -> None:
    assert decode(progressive(MAX_SCANS - 10)).shape == (64, 64)
    with pytest.raises(ImageError, match="damaged: more than 100 scans"):
        decode(progressive(MAX_SCANS))


def test_what_looks_like_a_scan_inside_other_parts_is_none() -> None:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 99).save(buffer, "JPEG")
    data = buffer.getvalue()
    thumbnails = b"\xff\xe1" + struct.pack(">H", 4002) + b"\xff\xda" * 2000
    for odd in (data[:2] + thumbnails + data[2:], data + thumbnails):
        assert find_fault(odd) is None
        assert (decode(odd) == 99).all()


def test_tags_do_not_share_their_values() -> None:
    rich = shared(100, 50_000)
    assert find_fault(rich) == "its tags hold more than the file does"
    big = b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 2)
    assert find_fault(big + struct.pack(">HHQQ", 270, 2, 2**40, 16) * 2) == find_fault(rich)
    picture = Image.new("RGB", (64, 64), (99, 99, 99))
    for form in ("PNG", "WEBP"):
        for block, refused in ((rich, True), (shared(1, 50_000), False)):
            buffer = io.BytesIO()
            picture.save(buffer, form, exif=block, lossless=True)
            assert find_fault(buffer.getvalue()) == (find_fault(rich) if refused else None)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "jpeg", "packbits"])
def test_sound_tiffs_are_left_alone(compression: str | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)
    for big in (False, True):
        buffer = io.BytesIO()
        Image.fromarray(noise).save(
            buffer, "TIFF", compression=compression, big_tiff=big, description="a" * 99
        )
        assert find_fault(buffer.getvalue()) is None
        assert decode(buffer.getvalue()).shape == (90, 70)


def test_parts_are_counted() -> None:
    buffer = io.BytesIO()
    Image.new("L", (64, 64), 99).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    empty = struct.pack(">I", 0) + b"tEXt" + struct.pack(">I", zlib.crc32(b"tEXt"))
    plain = png(64, zlib.compress(b"\0" * 65 * 64))
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "WEBP", exif=b"x")
    for data in (
        jpeg[:2] + b"\xff\xfe\0\2" * 30_000 + jpeg[2:],
        plain[:33] + empty * 30_000 + plain[33:],
        buffer.getvalue() + b"abcd\0\0\0\0" * 30_000,
    ):
        assert find_fault(data) == "more than 20000 parts"
    assert find_fault(jpeg[:2] + b"\xff" * 5000 + jpeg[2:]) == "5000 bytes that belong to no part"
    assert (decode(jpeg[:2] + b"\xff" * 100 + jpeg[2:]) == 99).all()
