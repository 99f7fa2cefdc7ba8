"""Pixels of one image: decoding, the crop rule, resizing, augmentation."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from brain_ray.config import AugmentConfig, CropConfig
from brain_ray.data import decoding, transforms
from brain_ray.data.decoding import ImageError
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import Box
from brain_ray.input_spec import InputSpec

CROP = CropConfig()
ANY_SIZE = CropConfig(min_share=0.0)
STRONG = AugmentConfig(rotation=20, shift=0.1, zoom=0.2, brightness=0.2, contrast=0.2, noise=0.1, flip=0.5)


def disc(height: int = 120, width: int = 100, level: int = 200) -> NDArray[np.uint8]:
    """A bright ellipse on black, from row 20 to 99 and column 25 to 74."""
    rows, columns = np.mgrid[:height, :width]
    inside = ((rows - 59.5) / 40) ** 2 + ((columns - 49.5) / 25) ** 2 <= 1
    return (inside * level).astype(np.uint8)


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


def test_augmentation_is_reproducible_and_varied() -> None:
    image = disc()
    first, again, other = (transforms.augment(image, STRONG, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == image.shape
    assert first.dtype == np.uint8


def test_nothing_asked_for_changes_nothing() -> None:
    image = disc()
    assert np.array_equal(transforms.augment(image, AugmentConfig(), np.random.default_rng(1)), image)


def test_a_flip_mirrors_left_and_right() -> None:
    image = disc()
    image[:, :50] //= 2
    flipped = transforms.augment(image, AugmentConfig(flip=1.0), np.random.default_rng(1))
    assert np.array_equal(flipped, image[:, ::-1])


def test_one_range_does_not_shift_the_draws_of_another() -> None:
    image = disc()
    both = AugmentConfig(rotation=10, brightness=0.3)
    darker = transforms.augment(image, AugmentConfig(brightness=0.3), np.random.default_rng(5))
    turned = transforms.augment(image, both, np.random.default_rng(5))
    assert darker[60, 50] == turned[60, 50]


def oblong(around: int = 60) -> NDArray[np.uint8]:
    """60 x 20 px of 140 grey levels above what is around, in the middle of 160 x 120 px."""
    image = np.full((120, 160), around, np.uint8)
    image[50:70, 50:110] += 140
    return image


def measure(image: NDArray[np.uint8], around: int = 60) -> dict[str, float]:
    """An oblong's angle (degrees), its way from the middle (pixels) and its scale (per cent)."""
    moments = cv2.moments(image.astype(np.float32) - around)
    return {
        "angle": np.degrees(np.arctan2(2 * moments["mu11"], moments["mu20"] - moments["mu02"]) / 2),
        "right": moments["m10"] / moments["m00"] - 79.5,
        "down": moments["m01"] / moments["m00"] - 59.5,
        "scale": 100 * np.sqrt(moments["m00"] / (140 * 60 * 20)),
    }


def many(image: NDArray[np.uint8], ranges: AugmentConfig, num: int = 300) -> list[NDArray[np.uint8]]:
    return [transforms.augment(image, ranges, np.random.default_rng([3, i])) for i in range(num)]


@pytest.mark.parametrize(("keep_black", "around"), [(True, 0), (False, 60)])
@pytest.mark.parametrize(
    ("ranges", "changes"),
    [
        ({"rotation": 20}, {"angle": 20}),
        ({"shift": 0.1}, {"right": 16, "down": 12}),
        ({"zoom": 0.2}, {"scale": 20}),
    ],
)
def test_geometry_is_drawn_from_all_of_its_range_and_changes_nothing_else(
    ranges: dict[str, float], changes: dict[str, float], keep_black: bool, around: int
) -> None:
    before = measure(oblong(around), around)
    changed = many(oblong(around), AugmentConfig(**ranges, keep_black=keep_black))
    found = [measure(image, around) for image in changed]
    for name in before:
        differences = np.array([one[name] - before[name] for one in found])
        largest = changes.get(name, 0)
        assert np.abs(differences).max() < largest + 0.3
        if largest:
            quarters = np.histogram(differences, bins=4, range=(-largest, largest))[0]
            assert quarters.min() > 0.15 * len(found), "each quarter of the range is drawn"


@pytest.mark.parametrize("keep_black", [True, False])
def test_brightness_is_drawn_from_all_of_its_range(keep_black: bool) -> None:
    flat = np.full((32, 32), 127, np.uint8)
    ranges = AugmentConfig(brightness=0.1, keep_black=keep_black)
    offsets = [int(image[0, 0]) - 127 for image in many(flat, ranges)]
    assert -26 <= min(offsets) < -22
    assert 22 < max(offsets) <= 26
    assert np.histogram(offsets, bins=4)[0].min() > 0.15 * len(offsets)


def test_brightness_and_contrast_leave_air_black_and_keep_the_order_of_levels() -> None:
    image = np.tile(np.arange(256, dtype=np.uint8), (16, 1))
    changes = {"brightness": 0.2, "contrast": 0.3}
    for one in many(image, AugmentConfig(**changes)):
        assert (one[:, 0] == 0).all()
        assert (np.diff(one[0].astype(int)) >= 0).all()
    grey = [one[0, 0] > 0 for one in many(image, AugmentConfig(**changes, keep_black=False))]
    assert np.mean(grey) > 0.3


def test_what_comes_in_from_outside_is_black_or_repeats_the_edge() -> None:
    flat = np.full((64, 64), 150, np.uint8)
    for keep_black, expected in ((True, 0), (False, 150)):
        ranges = AugmentConfig(rotation=45, keep_black=keep_black)
        assert min(int(one.min()) for one in many(flat, ranges, 20)) == expected


def test_grey_levels_are_rounded_and_not_cut() -> None:
    image = np.random.default_rng(0).integers(60, 190, (64, 64)).astype(np.uint8)
    found = many(image, AugmentConfig(contrast=0.05))
    assert abs(np.mean([one.mean() - image.mean() for one in found])) < 0.1
    cut = many(image, AugmentConfig(contrast=0.05, keep_black=False))
    assert np.mean([one.mean() - image.mean() for one in cut]) == pytest.approx(-0.5, abs=0.1)


def test_an_earlier_version_augmented_as_keep_black_false_does() -> None:
    """Its own lines, for one draw of brightness and contrast."""
    image, rng = disc(), np.random.default_rng(4)
    ranges = AugmentConfig(brightness=0.2, contrast=0.2, keep_black=False)
    *_, bright, contrast = rng.uniform(-1.0, 1.0, size=6)
    gain, mean = 1 + contrast * 0.2, float(image.mean())
    offset = mean * (1 - gain) + bright * 0.2 * 255
    table = np.clip(np.arange(256) * gain + offset, 0, 255).astype(np.uint8)
    assert np.array_equal(transforms.augment(image, ranges, np.random.default_rng(4)), table[image])


def test_contrast_is_drawn_from_all_of_its_range_and_keeps_the_mean() -> None:
    found = many(oblong(), AugmentConfig(contrast=0.2, keep_black=False))
    gains = [image.std() / oblong().std() for image in found]
    assert 0.79 < min(gains) < 0.82
    assert 1.18 < max(gains) < 1.21
    assert np.histogram(gains, bins=4)[0].min() > 0.15 * len(gains)
    assert np.abs([image.mean() - oblong().mean() for image in found]).max() < 1


def test_noise_is_gaussian_and_drawn_from_all_of_its_range() -> None:
    flat = np.full((64, 64), 128, np.uint8)
    noises = [image.astype(float) - 128 for image in many(flat, AugmentConfig(noise=0.1))]
    deviations = np.array([noise.std() for noise in noises])
    assert deviations.min() < 1
    assert 24.5 < deviations.max() < 0.1 * 255 + 1
    assert np.histogram(deviations, bins=4)[0].min() > 0.15 * len(noises)
    strong = np.stack([noise / noise.std() for noise in noises if noise.std() > 5])
    assert abs(strong.mean()) < 0.01
    assert (np.abs(strong) < 1).mean() == pytest.approx(0.683, abs=0.01)
    assert (strong**4).mean() == pytest.approx(3, abs=0.1)
    beside = (strong[:, :, :-1] * strong[:, :, 1:]).mean()
    below = (strong[:, :-1] * strong[:, 1:]).mean()
    next_image = (strong[:-1] * strong[1:]).mean()
    assert np.abs([beside, below, next_image]).max() < 0.01, "pixels and images are independent"


def test_noise_changes_no_other_draw_and_does_not_wrap_around() -> None:
    strong = STRONG.model_copy(update={"keep_black": False})  # on black, noise that is cut at 0 adds light
    without = strong.model_copy(update={"noise": 0.0})
    for seed in range(20):
        plain = transforms.augment(oblong(), without, np.random.default_rng(seed)).astype(float)
        noisy = transforms.augment(oblong(), strong, np.random.default_rng(seed)).astype(float)
        assert abs((noisy - plain).mean()) < 1
        assert (noisy - plain).std() < 0.1 * 255 + 1
    extremes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    noisy = transforms.augment(extremes, AugmentConfig(noise=0.1), np.random.default_rng(0))
    assert noisy[:, ::2].max() < 128 < noisy[:, 1::2].min()


def test_noise_is_the_same_in_every_thread() -> None:
    def noisy(seed: int) -> NDArray[np.uint8]:
        return transforms.augment(disc(), AugmentConfig(noise=0.1), np.random.default_rng(seed))

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(noisy, range(200)))
    assert all(np.array_equal(one, noisy(seed)) for seed, one in enumerate(together))


def test_as_many_images_are_flipped_as_asked_for() -> None:
    image = disc()
    image[:, :50] //= 2
    flipped = [np.array_equal(one, image[:, ::-1]) for one in many(image, AugmentConfig(flip=0.3))]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.08)
