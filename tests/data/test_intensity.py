"""More than 8 bits become grey by percentiles: hot pixels, padding, inverted grey, colours and
transparency."""

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import median_filter
from support.picture_files import saved
from support.volumes import head

from brain_ray.config import CropConfig
from brain_ray.data.decoding import ImageError, decode
from brain_ray.data.intensity import FEW_LEVELS, count_levels, find_range, scale, to_grey
from brain_ray.data.transforms import find_box
from brain_ray.input_spec import ReadSpec

WINDOW = (0.5, 99.5)
EXTREMES = ReadSpec(window=(0, 100))
HEAD = head()


def encoded(image: NDArray[Any], suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def difference(one: NDArray[Any], two: NDArray[Any]) -> int:
    return int(np.abs(one.astype(int) - two).max())


def tiff(image: NDArray[Any], **tags: int) -> bytes:
    """A TIFF of any number type, with further tags by number (`t262`: 0 for white is zero)."""
    height, width, *colours = image.shape
    samples = colours[0] if colours else 1
    body = np.ascontiguousarray(image).tobytes()
    bits = struct.pack(f"<{samples}H", *[8 * image.dtype.itemsize] * samples)
    body += bits + bytes(len(bits) % 4)
    kind = {"u": 1, "i": 2, "f": 3}[image.dtype.kind]
    values = {
        256: width,
        257: height,
        258: 8 * image.dtype.itemsize,
        259: 1,
        262: 2 if samples > 2 else 1,
        273: 8,
    }
    values |= {277: samples, 278: height, 279: image.nbytes, 339: kind} | {
        int(k[1:]): v for k, v in tags.items()
    }
    entries = b""
    for tag, value in sorted(values.items()):
        count, kind = (samples, 3) if tag == 258 else (1, 4)
        packed = bits.ljust(4, b"\0") if len(bits) <= 4 else struct.pack("<I", 8 + image.nbytes)
        entries += struct.pack("<HHI", tag, kind, count) + (
            packed if tag == 258 else struct.pack("<I", value)
        )
    page = struct.pack("<H", len(values)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + page


def test_eight_bits_are_not_touched() -> None:
    dark = (HEAD // 5).astype(np.uint8)
    assert to_grey(dark, WINDOW) is dark
    np.testing.assert_array_equal(decode(encoded(dark)), dark)


@pytest.mark.parametrize("hot", [1, 10])
@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.float32, np.float64])
def test_hot_pixels_change_nothing(kind: type[np.generic], hot: int) -> None:
    deep = (HEAD.astype(np.int32) * 16).astype(kind)
    spoilt = deep.copy()
    spoilt.ravel()[17 : 17 + hot] = 32_767 if kind == np.int16 else 65_535
    suffix = ".png" if kind == np.uint16 else ".tiff"
    before, after = decode(encoded(deep, suffix)), decode(encoded(spoilt, suffix))
    assert difference(before.ravel()[17 + hot :], after.ravel()[17 + hot :]) <= 2
    assert find_box(after, CropConfig()) == find_box(before, CropConfig()) is not None
    assert count_levels(after) > FEW_LEVELS
    ruined = decode(encoded(spoilt, suffix), read=EXTREMES)
    assert find_box(ruined, CropConfig()) is None, "as it was, with the darkest and the brightest pixel"
    assert count_levels(ruined) < FEW_LEVELS


def test_an_image_darkened_by_a_burnt_in_label_has_few_levels() -> None:
    deep = HEAD.astype(np.uint16) * 8
    deep[4:14, 4:60] = 65_535
    assert count_levels(decode(encoded(deep))) < FEW_LEVELS
    assert count_levels(decode(encoded((HEAD > 99) * np.uint8(255)))) == 2
    assert count_levels(HEAD) > FEW_LEVELS


def test_what_is_not_finite_is_background_and_does_not_count() -> None:
    real = HEAD.astype(np.float32) / 255 + 3
    lost = real.copy()
    lost[:9], lost[9, :50], lost[9, 50:] = np.nan, np.inf, -np.inf
    found, expected = decode(encoded(lost, ".tiff")), to_grey(real[10:], WINDOW)
    assert not found[:10].any()
    assert expected is not None
    assert difference(found[10:], expected) <= 1
    with pytest.raises(ImageError, match="not finite: float32 pixels, all of them NaN or infinity"):
        decode(encoded(np.full((32, 32), np.nan, np.float32), ".tiff"))


@pytest.mark.parametrize("kind", ["uint16", "int16", "float32", "uint32"])
def test_white_for_zero_is_inverted_at_any_depth(kind: str) -> None:
    deep = (HEAD.astype(np.int64) * 16).astype(kind)
    plain, inverted = decode(tiff(deep)), decode(tiff(deep.max() - deep, t262=0))
    assert difference(plain, inverted) <= 2
    grey = HEAD.copy()
    np.testing.assert_array_equal(decode(tiff(255 - grey, t262=0)), grey)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32", "uint32"])
def test_colours_of_any_depth_become_luma(kind: str) -> None:
    grey = HEAD.astype(kind) * (1 if kind == "uint8" else 16)
    assert difference(decode(tiff(np.dstack([grey] * 3))), decode(tiff(grey))) <= 1
    red = np.dstack([grey, grey * 0, grey * 0])
    with pytest.raises(ImageError, match="refused: 192 bits a pixel"):
        decode(tiff(red.astype(np.float64)))
    if kind == "uint8":
        assert decode(tiff(red)).max() == pytest.approx(0.299 * HEAD.max(), abs=1)
    else:
        assert difference(decode(tiff(red)), decode(tiff(grey))) <= 1


def transparent(mode: str) -> Image.Image:
    """A head whose background is white, and transparent; its opaque form has a black one."""
    mask = (HEAD > 20) * np.uint8(255)
    shown = np.where(mask > 0, HEAD, 255).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(shown), Image.fromarray(mask)])
    return image if mode == "LA" else image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "form"),
    [
        ("LA", "PNG"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("LA", "TIFF"),
        ("RGBA", "TIFF"),
        ("RGBA", "JPEG2000"),
        ("LA", "JPEG2000"),
    ],
)
def test_what_is_transparent_is_laid_on_black(mode: str, form: str) -> None:
    opaque = np.where(HEAD > 20, HEAD, 0)
    options = {"lossless": True} if form == "WEBP" else {}
    turned = Image.Exif()
    turned[0x0112] = 6  # turn by 90 degrees to the right
    found = decode(saved(transparent(mode), form, **options))
    assert difference(found, opaque) <= 1
    if form in ("PNG", "WEBP"):
        found = decode(saved(transparent(mode), form, exif=turned, **options))
        assert difference(found, np.rot90(opaque, -1)) <= 1


def test_transparency_of_palettes_of_one_grey_level_and_of_16_bits() -> None:
    palette = Image.fromarray(HEAD).quantize(200)
    index = np.asarray(palette)
    alpha = bytes(0 if number == index[0, 0] else 255 for number in range(200))
    for form in ("PNG", "GIF"):
        options = {"transparency": alpha if form == "PNG" else int(index[0, 0])}
        assert not decode(saved(palette, form, **options))[index == index[0, 0]].any()
    level = int(HEAD[80, 60])
    image = decode(saved(Image.fromarray(HEAD), "PNG", transparency=level))
    np.testing.assert_array_equal(image, np.where(level == HEAD, 0, HEAD))
    deep = np.dstack([HEAD.astype(np.uint16) * 257] * 3 + [(HEAD > 20) * np.uint16(65_535)])
    expected = to_grey(np.where(HEAD > 20, HEAD.astype(np.float32), 0), WINDOW)
    assert expected is not None
    for suffix in (".png", ".tiff"):
        assert difference(decode(encoded(deep, suffix)), expected) <= 1


def test_a_transparency_that_pillow_cannot_open_is_told_without_an_address() -> None:
    made = bytearray(saved(transparent("RGBA"), "TIFF"))
    made[made.index(struct.pack("<HH", 338, 3)) + 2] = 1  # extra samples: bytes, which OpenCV takes
    with pytest.raises(ImageError, match="its transparency cannot be decoded") as error:
        decode(bytes(made))
    assert "UnidentifiedImageError" in str(error.value)
    assert "0x" not in str(error.value)


def test_an_alpha_of_zeros_means_nothing() -> None:
    image = np.dstack([HEAD] * 3 + [HEAD * 0])
    np.testing.assert_array_equal(decode(encoded(image)), HEAD)


def test_a_jpeg_without_its_end_is_taken_if_all_its_pixels_are_there() -> None:
    for options in ({}, {"quality": 60}, {"restart_marker_blocks": 3}):
        whole = saved(Image.fromarray(HEAD), "JPEG", **options)
        for cut in (whole[:-1], whole[:-2]):
            np.testing.assert_array_equal(decode(cut), decode(whole))
        for cut in (whole[:-3], whole[:-6], whole[: len(whole) // 2]):
            with pytest.raises(ImageError, match="damaged"):
                decode(cut)
    progressive = saved(Image.fromarray(HEAD), "JPEG", progressive=True)
    assert decode(progressive).shape == HEAD.shape
    with pytest.raises(ImageError, match="its last pixels are missing"):
        decode(progressive[:-2])


def test_grey_with_alpha_of_16_bits_in_a_tiff_is_refused() -> None:
    deep = np.dstack([HEAD.astype(np.uint16) * 16, (HEAD > 20) * np.uint16(65_535)])
    with pytest.raises(ImageError, match="grey and alpha of more than 8 bits"):
        decode(tiff(deep, t338=2))


@pytest.mark.parametrize("levels", [15, 100, 255])
def test_a_pgm_with_fewer_levels_fills_the_range(levels: int) -> None:
    stored = (HEAD.astype(np.uint16) * levels // 255).astype(np.uint8)
    data = f"P5\n# a comment\n128 160\n{levels}\n".encode() + stored.tobytes()
    assert difference(decode(data), np.rint(stored * (255 / levels))) == 0
    deep = (HEAD.astype(">u2") * 16).astype(">u2")
    data = b"P5 128 160 4095\n" + deep.tobytes()
    expected = to_grey(deep.astype(np.uint16), WINDOW)
    assert expected is not None
    np.testing.assert_array_equal(decode(data), expected)


def test_formats_that_are_not_read_say_what_to_do() -> None:
    stream = io.BytesIO()
    Image.fromarray(HEAD).convert("RGB").save(stream, "AVIF")
    for data, reason in (
        (stream.getvalue(), "AVIF is not read: save it as PNG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99), "HEIC is not read: save it as PNG"),
        (b"NRRD0004\ntype: short\n", "NRRD is not read: save it as NIfTI"),
        (b"PK\x03\x04" + bytes(99), "ZIP is not read: unpack it"),
    ):
        with pytest.raises(ImageError, match=f"^{reason}$") as caught:
            decode(data)
        assert caught.value.code == "not_an_image"


# --- the pure part ------------------------------------------------------------------------------------------


def test_percentiles_are_those_of_all_images_together() -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(100, 10, (140, 50)).astype(np.float32) for _ in range(6)]
    medians = np.stack([median_filter(image, 3, mode="mirror") for image in images])
    low, high = find_range(images, 6 * 7000, WINDOW) or (0, 0)
    assert (low, high) == tuple(np.percentile(medians, WINDOW, method="inverted_cdf"))
    everything = (float(np.min(images)), float(np.max(images)))
    assert find_range(images, 6 * 7000, (0, 100)) == everything
    sampled = find_range(images, 6 * 7000, WINDOW, max_sample=9000) or (0, 0)
    assert sampled == pytest.approx((low, high), rel=0.02)
    assert find_range(images, 6 * 7000, (0, 100), max_sample=10) == everything
    lost = [np.where(rng.random(image.shape) < 0.01, np.nan, image) for image in images]
    assert find_range(lost, 6 * 7000, WINDOW) == pytest.approx((low, high), rel=0.05)
    assert find_range([np.full((20, 20), np.nan)], 400, WINDOW) is None


def test_a_sample_meets_all_columns() -> None:
    stripes = np.repeat(np.tile(np.arange(32, dtype=np.float32), (64, 1)), 2, axis=1)
    assert find_range([stripes], stripes.size, WINDOW, max_sample=512) == (0, 31)


def test_single_hot_pixels_get_their_surroundings_and_structures_stay() -> None:
    image = np.add.outer(np.arange(100), np.arange(100)).astype(np.uint16)
    spoilt, bright = image.copy(), image.copy()
    for place in ((0, 0), (0, 50), (63, 20), (64, 80), (99, 99)):
        spoilt[place] = 60_000
    bright[40:50, 40:43] = 3000
    before, after = to_grey(image, WINDOW), to_grey(spoilt, WINDOW)
    assert before is not None
    assert after is not None
    assert difference(before, after) <= 3
    vessel = to_grey(bright, WINDOW)
    assert vessel is not None
    assert (vessel[41:49, 40:43] == 255).all()


def test_an_image_that_is_nearly_empty_is_scaled_by_its_extremes() -> None:
    image = np.zeros((100, 100), np.uint16)
    image[50, 50] = 900
    grey = to_grey(image, WINDOW)
    assert grey is not None
    assert (grey.min(), grey.max(), int(grey.astype(int).sum())) == (0, 255, 255)
    assert not (to_grey(np.full((20, 20), 7, np.uint16), WINDOW) == 1).any()


@pytest.mark.parametrize("largest", [1e-320, 1.7e308])
def test_numbers_at_the_ends_of_their_type_are_scaled_too(largest: float) -> None:
    image = np.array([[-largest, 0, largest]] * 9)
    with np.errstate(all="raise", under="ignore"):
        grey = scale(image, -largest, largest)
    assert grey[0].tolist() in ([0, 128, 255], [0, 127, 255], [0, 0, 0])
