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
        assert find_fault(odd, 64, 64) is None
        assert (decode(odd) == 99).all()
