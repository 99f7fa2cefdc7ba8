"""Random augmentation: reproducible, drawn from all of each range, one range apart from the others."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from support.disc import disc

from brain_ray.config import AugmentConfig
from brain_ray.data import augmentation
from brain_ray.data.artefacts.table import SEVERITIES, corrupt

STRONG = AugmentConfig(rotation=20, shift=0.1, zoom=0.2, brightness=0.2, contrast=0.2, noise=0.1, flip=0.5)


def test_augmentation_is_reproducible_and_varied() -> None:
    image = disc()
    first, again, other = (augmentation.augment(image, STRONG, np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == image.shape
    assert first.dtype == np.uint8


def test_nothing_asked_for_changes_nothing() -> None:
    image = disc()
    assert np.array_equal(augmentation.augment(image, AugmentConfig(), np.random.default_rng(1)), image)


def test_a_flip_mirrors_left_and_right() -> None:
    image = disc()
    image[:, :50] //= 2
    flipped = augmentation.augment(image, AugmentConfig(flip=1.0), np.random.default_rng(1))
    assert np.array_equal(flipped, image[:, ::-1])


def test_one_range_does_not_shift_the_draws_of_another() -> None:
    image = disc()
    both = AugmentConfig(rotation=10, brightness=0.3)
    darker = augmentation.augment(image, AugmentConfig(brightness=0.3), np.random.default_rng(5))
    turned = augmentation.augment(image, both, np.random.default_rng(5))
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
    return [augmentation.augment(image, ranges, np.random.default_rng([3, i])) for i in range(num)]


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
    assert np.array_equal(augmentation.augment(image, ranges, np.random.default_rng(4)), table[image])


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
        plain = augmentation.augment(oblong(), without, np.random.default_rng(seed)).astype(float)
        noisy = augmentation.augment(oblong(), strong, np.random.default_rng(seed)).astype(float)
        assert abs((noisy - plain).mean()) < 1
        assert (noisy - plain).std() < 0.1 * 255 + 1
    extremes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    noisy = augmentation.augment(extremes, AugmentConfig(noise=0.1), np.random.default_rng(0))
    assert noisy[:, ::2].max() < 128 < noisy[:, 1::2].min()


def test_noise_is_the_same_in_every_thread() -> None:
    def noisy(seed: int) -> NDArray[np.uint8]:
        return augmentation.augment(disc(), AugmentConfig(noise=0.1), np.random.default_rng(seed))

    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(noisy, range(200)))
    assert all(np.array_equal(one, noisy(seed)) for seed, one in enumerate(together))


def test_as_many_images_are_flipped_as_asked_for() -> None:
    image = disc()
    image[:, :50] //= 2
    flipped = [np.array_equal(one, image[:, ::-1]) for one in many(image, AugmentConfig(flip=0.3))]
    assert np.mean(flipped) == pytest.approx(0.3, abs=0.08)


def levels(ranges: AugmentConfig, num: int = 200) -> NDArray[np.uint8]:
    """To what some draws map each grey level, (num, 256), of a picture that has all of them."""
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return np.stack([image.ravel() for image in many(ramp, ranges, num)])


def test_a_curve_keeps_the_order_of_grey_levels_and_both_ends() -> None:
    found = levels(AugmentConfig(curve=1.0)).astype(int)
    assert (np.diff(found) >= 0).all()
    assert (found[:, 0] == 0).all()
    assert (found[:, 255] == 255).all()
    middle = found[:, 128]
    assert middle.min() < 70, "darker, by a lot"
    assert middle.max() > 185, "brighter, by a lot"


def test_inverted_levels_fall_and_air_stays_dark() -> None:
    found = levels(AugmentConfig(invert=1.0), 1)[0].astype(int)
    air = 128 // 5  # of a mean of 127.5
    assert found[0] == 0
    assert (np.diff(found[: air + 1]) > 0).all()
    assert (np.diff(found[air + 1 :]) <= 0).all()
    assert found[air + 2] > 240
    assert found[255] == pytest.approx(air, abs=1)


@pytest.mark.parametrize("kind", ["curve", "invert"])
def test_as_many_images_change_their_levels_as_asked_for(kind: str) -> None:
    found = levels(AugmentConfig(**{kind: 0.25}), 400)
    changed = (found != np.arange(256)).any(axis=1).mean()
    assert changed == pytest.approx(0.25, abs=0.07)


def test_curves_do_not_shift_the_draws_of_the_others() -> None:
    image = disc()
    without = STRONG.model_copy(update={"artefacts": ("rotation",), "artefact_share": 0.5})
    never_drawn = without.model_copy(update={"curve": 1e-12, "invert": 1e-12})
    for plain, other in zip(many(image, without, 20), many(image, never_drawn, 20), strict=True):
        assert np.array_equal(plain, other)


def test_an_artefact_is_that_of_a_version_without_curves() -> None:
    image, ranges = disc(), AugmentConfig(artefacts=("bias_field",), artefact_share=1.0)
    rng = np.random.default_rng(5)
    rng.uniform(-1.0, 1.0, size=6)
    rng.random()
    own = rng.spawn(1)[0]
    own.random()
    own.integers(1)
    expected = corrupt(image, "bias_field", SEVERITIES[own.integers(len(SEVERITIES))], own)
    assert np.array_equal(augmentation.augment(image, ranges, np.random.default_rng(5)), expected)
