"""Files that cost a decoder seconds or gigabytes are refused or reduced; sound ones keep their pixels."""

import io
import itertools
import struct
import time
import zlib
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.file_checks.jpeg import MAX_SCANS
from brain_ray.data.file_checks.limits import StructureError
from brain_ray.data.file_checks.png import UNCHECKED
from brain_ray.data.formats import FORMATS, format_of

MAX_PIXELS = 40_000_000
NOISE = np.random.default_rng(0).integers(0, 256, (90, 70, 3), dtype=np.uint8)


def reduced(data: bytes) -> bytes:
    row = format_of(data, FORMATS.values())
    return row.check(data, MAX_PIXELS) if row else data


def expect_stack(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"^a stack of {reason}: save each as a file of its own$") as caught:
        decode(data)
    assert caught.value.code == "several_images"


def expect_refusal(data: bytes, reason: str) -> None:
    start = time.process_time()
    with pytest.raises(ImageError, match=f"refused: {reason}") as caught:
        decode(data)
    assert caught.value.code == "undecodable"
    assert time.process_time() - start < 0.5, "before it costs anything"


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def pixels(data: bytes) -> NDArray[np.generic]:
    """What OpenCV makes of a file as it is."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)


# --- PNG ----------------------------------------------------------------------------------------------------


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(
    side: int,
    packed: bytes,
    parts: int = 1,
    before: bytes = b"",
    after: bytes = b"",
    kind: bytes = b"\x08\0\0\0\0",
) -> bytes:
    """A PNG with its pixels in some chunks, and others around them; the kind ends its header."""
    size = -(-len(packed) // parts)
    made = [chunk(b"IDAT", packed[start : start + size]) for start in range(0, len(packed), size)]
    header = chunk(b"IHDR", struct.pack(">II", side, side) + kind)
    return b"\x89PNG\r\n\x1a\n" + header + before + b"".join(made) + after + chunk(b"IEND", b"")


def rows(side: int, filter_type: int = 0) -> bytes:
    return zlib.compress((bytes([filter_type]) + b"\x63" * side) * side)


def frame(number: int, side: int, packed: bytes) -> bytes:
    """A frame of an animation."""
    control = struct.pack(">IIIIIHHBB", number, side, side, 0, 0, 1, 10, 0, 0)
    return chunk(b"fcTL", control) + chunk(b"fdAT", struct.pack(">I", number + 1) + packed)


def test_a_part_of_a_png_is_not_longer_than_the_file() -> None:
    data = bytearray(png(64, rows(64)))
    struct.pack_into(">I", data, data.index(b"IDAT") - 4, 2**32 - 1)
    expect_refusal(bytes(data), r"a part of 4294967295 bytes, of which \d+ are there")


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


def test_texts_and_frames_of_a_png_reach_no_decoder() -> None:
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"A" * 7_900_000, 9))
    animated = (
        chunk(b"acTL", struct.pack(">II", 1, 0)) + frame(0, 64, b"")[:38]
    )  # its only frame is its picture
    for before, after in ((text * 3, text * 300), (animated, b"")):
        data = png(64, rows(64), before=before, after=after)
        assert reduced(data) == png(64, rows(64))
        assert (decode(data) == 0x63).all()


# --- JPEG ---------------------------------------------------------------------------------------------------


def segment(kind: int, body: bytes = b"") -> bytes:
    return bytes([0xFF, kind]) + struct.pack(">H", len(body) + 2) + body


JPEG = saved(Image.new("L", (64, 64), 99), "JPEG")


def with_segments(*segments: bytes) -> bytes:
    return JPEG[:2] + b"".join(segments) + JPEG[2:]


def progressive(more_scans: int, side: int = 64) -> bytes:
    data = saved(Image.new("L", (side, side), 99), "JPEG", progressive=True)
    return data[:-2] + data[data.rindex(b"\xff\xda") : -2] * more_scans + data[-2:]


def test_a_jpeg_has_a_bounded_number_of_scans() -> None:
    assert decode(progressive(MAX_SCANS - 10)).shape == (64, 64)
    expect_refusal(progressive(MAX_SCANS), "more than 100 scans")


def test_a_large_jpeg_has_fewer_scans() -> None:
    data = progressive(50)
    place = data.index(b"\xff\xc2") + 5
    expect_refusal(
        data[:place] + struct.pack(">HH", 6320, 6320) + data[place + 4 :], "33 scans over 6320x6320 px"
    )
    assert decode(progressive(0, 2000)).shape == (2000, 2000)
    with pytest.raises(ImageError, match="scans over 2000x2000 px"):
        decode(progressive(0, 2000), max_pixels=200_000)


@pytest.mark.parametrize("marker", [0xC3, 0xC5, 0xC9, 0xCA, 0xCB, 0xCD, 0xCF, 0xCC, 0xF7])
def test_arithmetic_lossless_and_hierarchical_jpegs_are_refused(marker: int) -> None:
    expect_refusal(
        with_segments(segment(marker, bytes(15))), f"a coding of JPEG that is not read .marker {marker:02X}."
    )


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[:2] + b"\xff\xd9" + segment(0xFE) * 2_000_000, "its end comes before its pixels"),
        (with_segments(segment(0xDB, (b"\0" + bytes(64)) * 1000) * 5), "more than 262144 bytes of tables"),
        (with_segments(segment(0xC0, b"\x08\0\x40\0\x40\1\1\x11\0")), "two sizes"),
        (with_segments(segment(0xDA)), "pixels before their size"),
        (JPEG.replace(b"\x08\0\x40\0\x40\1", b"\x08\0\x40\0\x40\x0a"), "neither 1, 3 nor 4 colours"),
        (with_segments(segment(0xFE) * 30_000), "more than 20000 parts"),
        (with_segments(b"\xff" * 5000), "5000 bytes that belong to no part"),
        (
            with_segments(*(segment(0xFE) + b"\0" * 1000 for _ in range(5))),
            "5000 bytes that belong to no part",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_jpegs_are_refused(data: bytes, reason: str) -> None:
    expect_refusal(data, reason)


def test_previews_profiles_and_texts_of_a_jpeg_reach_no_decoder() -> None:
    exif = segment(0xE1, b"Exif\0\0" + b"x" * 994)
    for dropped in (
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5000),
        segment(0xE2, b"ICC_PROFILE\0\1\1"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x/>"),
        segment(0xE1, b"\xff\xda" * 2000),
        segment(0xFE, b"a comment"),
        b"\xff" * 100,
    ):
        assert reduced(with_segments(dropped)) == JPEG
    assert reduced(with_segments(exif * 19_000)) == with_segments(exif), "Pillow joins them, again and again"
    assert reduced(JPEG + b"\xff\xda" * 2000 + JPEG) == JPEG


# --- TIFF ---------------------------------------------------------------------------------------------------

Tags = dict[int, int | list[int]]
SOUND: Tags = {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 64, 279: 4096}
"""A page of 64x64 px in one strip."""


def tiff(tags: Tags, body: bytes = b"\x63" * 4096, *, order: str = "<", next_page: int = 0) -> bytes:
    """A TIFF, its pixels from byte 8 on."""
    body += bytes(len(body) % 2)
    entries = b""
    for tag, value in sorted(tags.items()):
        values = value if isinstance(value, list) else [value]
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, body = struct.pack(f"{order}I", 8 + len(body)), body + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, 8 + len(body))
    return head + body + struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", next_page)


def shared(number: int, length: int) -> bytes:
    """A TIFF block whose tags all refer to the same text."""
    tag = struct.pack("<HHII", 0x010E, 2, length, 14 + 12 * number)
    return b"II*\0" + struct.pack("<IH", 8, number) + tag * number + b"\0" * 4 + b"x" * length


TILED: Tags = {tag: value for tag, value in SOUND.items() if tag not in (273, 278, 279)}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (shared(100, 50_000), "its tags hold more than the file does"),
        (shared(5000, 1), "more than 4096 tags"),
        (tiff(SOUND | {273: [8] * 300_000}), "more than 262144 numbers in its tags"),
        (tiff(SOUND | {273: [8] * 40_000}), "40000 strips or tiles, more than 32768"),
        (tiff(SOUND | {257: 40_000, 278: 1}), "40000 strips or tiles, more than 32768"),
        (tiff(SOUND | {257: 20_000, 277: 3, 278: 1, 284: 2}), "60000 strips or tiles, more than 32768"),
        (tiff(TILED | {256: 6000, 257: 6000, 322: 16, 323: 16}), "140625 strips or tiles, more than 32768"),
        (
            tiff(SOUND | {278: 1, 273: [8] * 64, 279: [4096] * 64}),
            "its strips or tiles hold more than the file",
        ),
        (
            tiff(TILED | {322: 16368, 323: 16368, 324: 8, 325: 4096}),
            "tiles of 16368x16368 px for a picture of 64x64",
        ),
        (tiff(SOUND | {258: 64, 277: 4}), "256 bits a pixel"),
        (tiff(SOUND | {258: [8, 8, 64], 277: 3}), "192 bits a pixel"),
        (
            tiff(SOUND | {259: 7, 279: 4104}, JPEG.replace(b"\xff\xc0", b"\xff\xc9").ljust(4104)),
            "a coding of JPEG",
        ),
        (
            tiff(SOUND | {259: 7, 279: 4096, 347: [0] * 5000}, JPEG.ljust(4096)),
            "more than 4096 bytes of tables",
        ),
        (b"MM*\0" + tiff(SOUND)[4:], "a TIFF header with two byte orders"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_odd_tiffs_are_refused(data: bytes, reason: str) -> None:
    expect_refusal(data, reason)


def test_a_tiff_says_each_size_once_and_as_an_unsigned_number() -> None:
    sound = tiff(SOUND)
    assert (decode(sound) == 0x63).all()
    entry = sound.index(struct.pack("<HHII", 257, 4, 1, 64))
    for tag, kind in ((256, 4), (257, 9), (257, 12)):
        odd = sound[:entry] + struct.pack("<HH", tag, kind) + sound[entry + 4 :]
        expect_refusal(odd, f"tag {tag} is there twice, or its type is {kind}")


def test_all_strips_in_jpeg_are_bounded_together() -> None:
    scans = progressive(90)
    place = scans.index(b"\xff\xc2") + 5
    strip = scans[:place] + struct.pack(">HH", 2000, 2000) + scans[place + 4 :]
    tags = SOUND | {256: 2000, 257: 4000, 259: 7, 278: 2000, 273: [8, 8 + len(strip)], 279: [len(strip)] * 2}
    assert len(reduced(tiff(tags | {257: 2000, 273: 8, 279: len(strip)}, strip))) > len(strip)
    expect_refusal(
        tiff(tags | {257: 10_000, 273: [8] * 5, 279: [len(strip)] * 5}, strip * 5), "its strips or tiles have"
    )


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_has_one_page_beside_previews_and_masks(order: str) -> None:
    alone = tiff(SOUND, order=order)
    page = alone[-(2 + 12 * len(SOUND) + 4) :]
    for kind, kept in ((1, True), (4, True), (0, False), (2, False)):
        further = struct.pack(f"{order}H", 1) + struct.pack(f"{order}HHII", 254, 4, 1, kind) + bytes(4)
        followed = alone[:-4] + struct.pack(f"{order}I", len(alone)) + further
        if kept:
            assert reduced(followed)[: len(alone)] == alone
        else:
            expect_stack(followed, "2 pages")
            once_more = followed[:-4] + struct.pack(f"{order}I", len(followed)) + page
            expect_stack(once_more, "3 pages")
    itself = alone[:-4] + struct.pack(f"{order}I", len(alone) - len(page))
    expect_stack(itself, "2 pages")


def test_exif_blocks_are_looked_at_in_all_formats() -> None:
    picture = Image.new("RGB", (64, 64), (99, 99, 99))
    for form in ("PNG", "WEBP", "JPEG"):
        for block, refused in ((shared(100, 50_000), True), (shared(1, 50_000), False)):
            exif = b"Exif\0\0" + block if form == "JPEG" else block
            data = saved(picture, form, exif=exif, lossless=True)
            if refused:
                expect_refusal(data, "its tags hold more than the file does")
            else:
                assert decode(data).shape == (64, 64)
    big = b"MM\0+\0\x08\0\0" + struct.pack(">QQ", 16, 2)
    with pytest.raises(StructureError, match="its tags hold more"):
        reduced(big + struct.pack(">HHQQ", 270, 2, 2**40, 16) * 2)


# --- WebP ---------------------------------------------------------------------------------------------------


def three(value: int) -> bytes:
    return struct.pack("<I", value)[:3]


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(content)) + content for kind, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def animated_webp(canvas: tuple[int, int], place: int = 0) -> bytes:
    """One frame of 64x64 px on a canvas."""
    inner = saved(Image.new("RGB", (64, 64), (99, 99, 99)), "WEBP", lossless=True)[12:]
    head = b"\2\0\0\0" + three(canvas[0] - 1) + three(canvas[1] - 1)
    frame = three(place) + three(0) + three(63) * 2 + three(100) + b"\0" + inner
    return riff((b"VP8X", head), (b"ANIM", bytes(6)), (b"ANMF", frame))


def test_the_frame_of_a_webp_fills_its_canvas() -> None:
    assert (decode(animated_webp((64, 64))) == 99).all()
    for data in (animated_webp((16_383, 2_441)), animated_webp((64, 64), place=1)):
        expect_refusal(data, "a frame that does not fill the canvas")


def test_chunks_of_a_webp_are_counted() -> None:
    data = saved(Image.new("RGB", (64, 64)), "WEBP", exif=b"x")
    assert reduced(data + b"abcd\0\0\0\0" * 100) == reduced(data)
    expect_refusal(data + b"abcd\0\0\0\0" * 30_000, "more than 20000 parts")


# --- what stays as it was -----------------------------------------------------------------------------------


def frames() -> dict[str, object]:  # Pillow keeps one format's options in a picture for the next
    return {"save_all": True, "append_images": [Image.fromarray(NOISE[::-1].copy())]}


def stacks() -> Iterator[tuple[str, bytes]]:
    """Files of several pictures."""
    picture = Image.fromarray(NOISE)
    grey = [Image.fromarray(np.roll(NOISE[..., 0], shift, 0)) for shift in (0, 9)]
    yield "2 frames", saved(grey[0], "PNG", save_all=True, append_images=grey[1:])
    yield "2 frames", saved(grey[0], "PNG", save_all=True, append_images=grey[:1], default_image=True)
    yield "2 pages", saved(picture.copy(), "TIFF", **frames())
    yield "2 frames", saved(picture.copy(), "WEBP", **frames())
    yield "2 frames", saved(picture.copy(), "GIF", **frames())
    pgm = saved(grey[0], "PPM")
    yield "2 pictures or more", pgm + pgm + pgm
    jp2 = saved(grey[0], "JPEG2000")
    yield "2 images", jp2 + jp2[jp2.index(b"jp2c") - 4 :]


@pytest.mark.parametrize(("reason", "data"), list(stacks()))
def test_of_several_pictures_in_a_file_none_is_taken(reason: str, data: bytes) -> None:
    expect_stack(data, reason)


def sound() -> Iterator[tuple[str, bytes]]:
    """Files of all kinds that people have."""
    picture = Image.fromarray(NOISE)
    turned = Image.Exif()
    turned[0x0112] = 6

    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = (
            picture.convert(mode)
            if mode != "I;16"
            else Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257)
        )
        yield f"PNG {mode}", saved(image, "PNG", exif=turned, icc_profile=b"profile", dpi=(72, 72))
    palette = chunk(b"PLTE", bytes(range(48))) + chunk(b"tRNS", bytes(range(0, 160, 10)))
    for kind, more in ((b"\x04\3\0\0\0", palette), (b"\x08\0\0\0\0", chunk(b"tRNS", b"\0\x63"))):
        bits = kind[0] * 64 // 8
        yield (
            f"PNG {kind.hex()} tRNS",
            png(64, zlib.compress((b"\0" + bytes(range(bits))) * 64), before=more, kind=kind),
        )
    odd = [(b"gAMA", struct.pack(">I", 100_000)), (b"sBIT", b"\x05"), (b"bKGD", b"\0\x05"), (b"sRGB", b"\0")]
    yield "PNG gamma", png(64, rows(64), before=b"".join(itertools.starmap(chunk, odd)))
    passes = ((8, 8), (8, 8), (16, 8), (16, 16), (32, 16), (32, 32), (64, 32))  # width, height
    packed = zlib.compress(b"".join(b"\0" + bytes(range(h, h + w)) for w, h in passes for _ in range(h)))
    yield "PNG interlaced", png(64, packed, kind=b"\x08\0\0\0\1")
    for mode, options in itertools.product(
        ("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_blocks": 3})
    ):
        yield (
            f"JPEG {mode} {options}",
            saved(picture.convert(mode), "JPEG", exif=turned, comment=b"c", **options),
        )
    yield "JPEG RGB kept", saved(picture, "JPEG", keep_rgb=True, icc_profile=b"x" * 70_000)
    jpeg = saved(picture, "JPEG", exif=turned)
    yield "JPEG XMP first", jpeg[:2] + segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0") + jpeg[2:] + b"tail"
    yield "MPO", saved(picture, "MPO", **frames())
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits"):
        for big in (False, True):
            options = {
                "compression": compression,
                "big_tiff": big,
                "description": "a" * 99,
                "tiffinfo": {278: 8},
            }
            yield f"TIFF {compression} {big}", saved(picture, "TIFF", **options)
    for mode in ("1", "L", "P", "RGBA", "CMYK"):
        yield f"TIFF {mode}", saved(picture.convert(mode), "TIFF", tiffinfo={274: 6})
    yield "TIFF 16 bit", cv2.imencode(".tiff", NOISE.astype(np.uint16) * 257)[1].tobytes()
    yield "TIFF float", cv2.imencode(".tiff", NOISE[..., 0].astype(np.float32))[1].tobytes()
    places = [8 + 1024 * i for i in range(4)]
    tiles = TILED | {322: 32, 323: 32, 324: places, 325: [1024] * 4}
    yield "TIFF tiles", tiff(tiles, NOISE.tobytes()[:4096], order=">")
    for mode, lossless in itertools.product(("RGB", "RGBA"), (False, True)):
        for more in ({}, {"exif": turned, "icc_profile": b"p", "xmp": b"x"}):
            yield (
                f"WebP {mode} {lossless} {list(more)}",
                saved(picture.convert(mode), "WEBP", lossless=lossless, **more),
            )
    for mode in ("1", "L", "P", "RGB"):
        yield f"BMP {mode}", saved(picture.convert(mode), "BMP")
    yield "GIF", saved(picture, "GIF", comment=b"c" * 999)
    for mode, options in itertools.product(
        ("L", "RGB", "RGBA"), ({}, {"no_jp2": True}, {"irreversible": True}, {"tile_size": (32, 32)})
    ):
        yield f"JPEG 2000 {mode} {options}", saved(picture.convert(mode), "JPEG2000", **options)
    for mode in ("1", "L", "RGB"):
        yield f"PNM {mode}", saved(picture.convert(mode), "PPM")
    yield "PNM as text", b"P2\n# a comment\n3 2 9\n".replace(b"3 2", b"20 20") + b"1 2 3 4\n" * 100


def test_sound_files_keep_their_pixels() -> None:
    for name, data in sound():
        expected = pixels(data)
        assert expected is not None, name
        assert np.array_equal(pixels(reduced(data)), expected), name
        assert decode(data).shape == expected.shape, name


@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP", "GIF", "JPEG2000", "PPM"])
def test_what_is_cut_off_is_refused_or_as_before(form: str) -> None:
    data = saved(Image.fromarray(NOISE), form)
    for kept in (*range(12, 80, 3), len(data) // 2, len(data) - 20, len(data) - 1):
        before = pixels(data[:kept])
        try:
            after = decode(data[:kept])
        except ImageError:
            continue
        whole = form in ("JPEG", "GIF") and kept == len(data) - 1  # only its end marker is not complete
        assert np.array_equal(after, pixels(data) if whole else before)


def test_formats_can_be_restricted() -> None:
    gif = saved(Image.new("L", (64, 64), 99), "GIF")
    assert decode(gif).shape == (64, 64)
    with pytest.raises(ImageError, match="expected one of PNG, JPEG") as caught:
        decode(gif, formats=[FORMATS["PNG"], FORMATS["JPEG"]])
    assert caught.value.code == "not_an_image"
