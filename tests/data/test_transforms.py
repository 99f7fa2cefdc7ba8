"""Pixels of one image: decoding, the crop rule, resizing."""

import io
import struct
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support.disc import disc

from brain_ray.config import CropConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.decoding import ImageError
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec

CROP = CropConfig()
ANY_SIZE = CropConfig(min_share=0.0)


def encoded(image: NDArray[np.generic], suffix: str = ".png") -> bytes:
    return bytes(cv2.imencode(suffix, image)[1])


def test_grey_and_colour_files_of_one_picture_decode_to_the_same_pixels() -> None:
    grey = disc()
    colour = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    alpha = cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)
    assert np.array_equal(decoding.decode(encoded(grey)), grey)
    assert np.array_equal(decoding.decode(encoded(colour)), grey)
    assert np.array_equal(decoding.decode(encoded(alpha)), grey)


def test_more_than_8_bits_are_scaled_from_their_own_range() -> None:
    deep = disc().astype(np.uint16) * 10 + 100
    assert np.array_equal(decoding.decode(encoded(deep)), disc(level=255))
    floats = disc().astype(np.float32) / 7 - 3
    assert np.array_equal(decoding.decode(encoded(floats, ".tiff")), disc(level=255))
    flat = np.full((32, 32), 7, np.uint16)
    assert not decoding.decode(encoded(flat)).any()


def test_exif_rotation_is_applied() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(disc(80, 100)).save(buffer, "JPEG", exif=exif)
    assert decoding.decode(buffer.getvalue()).shape == (100, 80)


def test_cmyk_becomes_grey() -> None:
    buffer = io.BytesIO()
    Image.fromarray(disc()).convert("CMYK").save(buffer, "JPEG", quality=95)
    assert np.abs(decoding.decode(buffer.getvalue()).astype(int) - disc()).mean() < 3


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff"])
@pytest.mark.parametrize("share", [0.3, 0.99])
def test_a_truncated_file_is_refused(suffix: str, share: float) -> None:
    rng = np.random.default_rng(1)
    data = encoded(rng.integers(0, 256, (64, 64), dtype=np.uint8), suffix)
    with pytest.raises(ImageError, match=r"damaged|refused|not an image"):
        decoding.decode(data[: int(len(data) * share)])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"just some text, named .jpg", "not an image"),
        (b"\xff\xd8\xff\xe0" + bytes(range(256)), "not an image|damaged"),
        (encoded(np.zeros((1, 1), np.uint8)), "too small: 1x1 px"),
        (encoded(np.full((32, 32), np.nan, np.float32), ".tiff"), "not finite"),
    ],
)
def test_what_is_no_use_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        decoding.decode(data)


def test_a_pixel_bomb_is_refused_from_its_header() -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9))
    with pytest.raises(ImageError, match="too large"):
        decoding.decode(bomb)


def test_the_box_holds_all_of_the_head() -> None:
    box = transforms.find_box(disc(), CROP)
    assert box is not None
    rows, columns = np.nonzero(transforms.head_mask(disc(), CROP))
    assert (box.top, box.left) == (rows.min(), columns.min())
    assert (box.bottom, box.right) == (rows.max() + 1, columns.max() + 1), "the last row and column are kept"


def test_specks_do_not_widen_the_box() -> None:
    image = disc()
    image[2:4, 2:4] = 255
    assert transforms.find_box(image, CROP) == transforms.find_box(disc(), CROP)


@pytest.mark.parametrize(
    "image",
    [np.zeros((64, 64), np.uint8), np.full((64, 64), 45, np.uint8), disc(level=40)],
    ids=["blank", "at the threshold", "very dark"],
)
def test_without_a_contour_there_is_no_box(image: NDArray[np.uint8]) -> None:
    assert transforms.find_box(image, CROP) is None
    assert Box.whole(image).crop(image).shape == image.shape


def specks(side: int, step: int, size: int) -> NDArray[np.uint8]:
    """Bright squares, apart from one another, all over an image."""
    on = np.arange(side) % step < size
    return (on[:, None] & on[None, :]).astype(np.uint8) * 255


def all_contours(image: NDArray[np.uint8]) -> NDArray[np.int32]:
    """The largest contour among all of them."""
    found = cv2.findContours(transforms.head_mask(image, CROP), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return max(found, key=cv2.contourArea)


def test_specks_by_the_ten_thousand_are_not_followed_and_the_head_among_them_is_found() -> None:
    image = specks(1200, 8, 5)
    assert (
        np.count_nonzero(np.diff(transforms.head_mask(image, CROP).astype(int)) > 0) > transforms.MAX_STARTS
    )
    head = cv2.resize(disc(), (500, 600))
    image[300:900, 300:800] = np.maximum(head, image[300:900, 300:800] // 8)
    expected = all_contours(image)
    found = transforms.find_contour(image, CROP)
    assert found is not None
    assert np.array_equal(found, expected)
    assert len(expected) > 100


def test_the_contour_is_the_same_whether_components_are_counted_or_not() -> None:
    noise = np.random.default_rng(0).integers(0, 90, (300, 300)).astype(np.uint8)
    drawn = [draw(kind, 3, index) for index, kind in enumerate(("glioma", "notumor", "pituitary") * 8)]
    shown = [image if image.ndim == 2 else np.ascontiguousarray(image[..., 0]) for image in drawn]
    shown += [np.maximum(cv2.resize(disc(), (300, 300)), noise), noise]
    expected = [all_contours(image) for image in shown]
    for image, contour in zip(shown, expected, strict=True):
        found = transforms.find_contour(image, CROP, max_starts=0, max_components=20)
        assert found is not None
        assert np.array_equal(found, contour)


def test_an_image_that_is_all_specks_does_not_make_an_array_for_each(monkeypatch: pytest.MonkeyPatch) -> None:
    followed = []

    def find_contours(mask: NDArray[np.uint8], *options: int) -> tuple[tuple[NDArray[np.int32], ...], object]:
        found = cv2.findContours(mask, *options)
        followed.append(len(found[0]))
        return found

    monkeypatch.setattr(transforms, "cv2", SimpleNamespace(**vars(cv2) | {"findContours": find_contours}))
    assert transforms.find_box(specks(4000, 8, 5), CROP) is None
    assert followed == [transforms.MAX_COMPONENTS]


def test_a_bright_border_gives_the_whole_image() -> None:
    image = disc()
    image[:8], image[-8:], image[:, :8], image[:, -8:] = 255, 255, 255, 255
    assert transforms.find_box(image, CROP) == Box.whole(image)


@pytest.mark.parametrize("side", [16, 17, 31])
def test_tiny_images_are_cropped_without_failure(side: int) -> None:
    image = np.zeros((side, side), np.uint8)
    image[side // 2 - 4 : side // 2 + 4, side // 2 - 4 : side // 2 + 4] = 255
    box = transforms.find_box(image, ANY_SIZE)
    assert box is not None
    assert box.crop(image).size > 0


def test_a_fragment_of_a_dark_head_is_no_box() -> None:
    image = disc(level=40)
    image[30:50, 40:60] = 255
    assert transforms.find_box(image, CROP) is None
    assert transforms.find_box(image, ANY_SIZE) is not None


def test_a_box_in_a_corner_keeps_the_corner() -> None:
    image = np.zeros((40, 40), np.uint8)
    image[30:, 30:] = 255
    box = transforms.find_box(image, ANY_SIZE)
    assert box is not None
    assert (box.bottom, box.right) == (40, 40)


def test_equal_pixels_have_equal_hashes_in_other_bytes_and_shapes_count() -> None:
    image = disc()
    again = decoding.decode(encoded(image, ".bmp"))
    assert decoding.pixel_hash(image) == decoding.pixel_hash(again)
    assert decoding.pixel_hash(image) != decoding.pixel_hash(image.reshape(100, 120))


def test_stretch_fills_and_pad_keeps_the_aspect_ratio() -> None:
    image = np.full((100, 50), 200, np.uint8)
    assert (transforms.resize(image, 64, 64, "stretch") == 200).all()
    padded = transforms.resize(image, 64, 64, "pad")
    columns = np.flatnonzero(padded.any(axis=0))
    assert (columns.min(), columns.max()) == (16, 47)


def test_the_input_is_cropped_and_fitted() -> None:
    image = disc()
    box = transforms.find_box(image, CROP)
    assert box is not None
    result = transforms.to_input(image, box, InputSpec(64, 48))
    assert result.shape == (64, 48, 1)
    assert result.dtype == np.uint8
    assert result[1:-1, 24].min() > 150, "the crop reaches from edge to edge"


def test_an_intermediate_size_changes_the_pixels_a_little() -> None:
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8), (9, 9), 0)
    box = Box.whole(image)
    direct = transforms.to_input(image, box, InputSpec(64, 48)).astype(int)
    through = transforms.to_input(image, box, InputSpec(64, 48, crop_size=(256, 256))).astype(int)
    assert 0 < np.abs(direct - through).mean() < 10


def framed_head() -> NDArray[np.uint8]:
    """A head with a dark hole, in a grey frame that is noisy, as some scanners and exports leave it."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 30, (120, 100)).astype(np.uint8)
    head = disc() > 0
    image[head] = rng.integers(150, 200, head.sum())
    image[55:65, 45:55] = 3
    return image


def test_a_black_background_leaves_the_head_alone() -> None:
    image = framed_head()
    cleaned = transforms.blacken_background(image)
    inside, outside = (
        cv2.erode(part.astype(np.uint8), np.ones((5, 5))) > 0 for part in (disc() > 0, disc() == 0)
    )
    assert np.array_equal(cleaned[inside], image[inside]), "with its hole"
    assert not cleaned[outside].any()
    assert image[outside].any()


@pytest.mark.parametrize(
    "image", [np.zeros((40, 50), np.uint8), draw("glioma", 3, 0), np.eye(64, dtype=np.uint8) * 255]
)
def test_a_background_is_blackened_without_failure_and_once(image: NDArray[np.uint8]) -> None:
    cleaned = transforms.blacken_background(image)
    assert cleaned.shape == image.shape
    assert (cleaned <= image).all()
    again = transforms.blacken_background(cleaned)
    assert (again != cleaned).mean() < 0.01


def test_a_small_bright_part_is_no_head() -> None:
    image = framed_head()
    image[disc() > 0] = 20
    image[10:20, 10:20] = 255
    assert np.array_equal(transforms.blacken_background(image), image)


def test_the_background_is_blackened_after_the_fit_and_before_augmentation() -> None:
    image, box = framed_head(), Box(10, 110, 5, 95)
    plain, cleaned = (
        transforms.to_input(image, box, InputSpec(64, 48, background=background))[..., 0]
        for background in ("keep", "black")
    )
    assert np.array_equal(cleaned, transforms.blacken_background(plain))
    assert plain[0].any()
    assert not cleaned[0].any()
