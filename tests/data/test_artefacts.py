"""Artefacts at five severities: what each changes, what it leaves, and that a severity is one."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import cv2
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from brain_ray.arrays import Grey
from brain_ray.config import AugmentConfig, Config, DataConfig
from brain_ray.config.augmentation import Artefact
from brain_ray.data import augmentation, decoding
from brain_ray.data.artefacts import scanner
from brain_ray.data.artefacts.table import ARTEFACTS, NAMES, SEVERITIES, corrupt, draws_of
from brain_ray.data.phantoms import files as phantom
from brain_ray.data.rows import BOX, rows_digest

REAL = Path(__file__).parents[3] / "shared/data/brain-mri"
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
BLACK_STAYS = {name for name in NAMES if name.startswith(("bias", "contrast", "gamma", "brightness"))}


def phantoms() -> list[Grey]:
    drawn = [phantom.encode(phantom.draw(CLASSES[k % 4], 7, k), ".png") for k in range(4)]
    return [decoding.decode(data) for data in drawn]


def real() -> list[Grey]:
    if not REAL.is_dir():
        pytest.skip(f"no real images at ../{REAL.relative_to(Path(__file__).parents[3])}")
    files = sorted(REAL.rglob("*.jpg"))
    return [decoding.decode(path.read_bytes()) for path in files[:: len(files) // 8]]


def head(height: int = 120, width: int = 90) -> Grey:
    """A bright oval with a darker middle on black."""
    image = np.zeros((height, width), np.uint8)
    middle = (width // 2, height // 2)
    cv2.ellipse(image, middle, (width // 3, height // 3), 0, 0, 360, 200, -1)
    cv2.ellipse(image, middle, (width // 6, height // 6), 0, 0, 360, 90, -1)
    return image


def strength(images: list[Grey], name: Artefact, severity: int) -> float:
    """Mean absolute change of the grey levels."""
    changes = [
        np.abs(corrupt(image, name, severity, draws_of(1, name, k)).astype(int) - image).mean()
        for k, image in enumerate(images)
    ]
    return float(np.mean(changes))


def test_the_table_has_every_name_that_settings_take() -> None:
    assert get_args(Artefact) == NAMES


def test_the_documented_severities_are_these() -> None:
    page = (Path(__file__).parents[2] / "docs/BRAINMR_C.md").read_text().split("## The scores")[0]
    rows = [line.strip("|").split(" | ") for line in page.splitlines() if line.startswith("| `")]
    documented = {row[0].strip("` "): tuple(map(float, row[-6:-1])) for row in rows}
    assert documented == {name: kind.amounts for name, kind in ARTEFACTS.items()}


@pytest.mark.parametrize("source", [phantoms, real])
def test_each_severity_changes_more_than_the_one_before(source: Callable[[], list[Grey]]) -> None:
    images = source()
    for name in NAMES:
        changes = [0.0, *(strength(images, name, severity) for severity in SEVERITIES)]
        assert all(more > less for less, more in itertools.pairwise(changes)), (name, changes)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(120, 90), (91, 300), (16, 16)])
def test_images_stay_images(name: Artefact, shape: tuple[int, int]) -> None:
    for image in (head(*shape), np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        before = image.copy()
        found = [corrupt(image, name, severity, draws_of(1, name, 2)) for severity in SEVERITIES]
        assert all(one.shape == shape and one.dtype == np.uint8 for one in found)
        assert np.array_equal(image, before), "the image itself is not written to"


@pytest.mark.parametrize("name", NAMES)
def test_equal_generators_give_equal_images(name: Artefact) -> None:
    first, again = (corrupt(head(), name, 3, draws_of(1, name, 2)) for _ in range(2))
    assert np.array_equal(first, again)


@pytest.mark.parametrize("name", ["bias_field", "rician_noise", "motion", "ghosting", "spikes", "rotation"])
def test_other_images_and_seeds_draw_otherwise(name: Artefact) -> None:
    for others in ([(1, k) for k in range(8)], [(seed, 1) for seed in range(8)]):
        found = {corrupt(head(), name, 3, draws_of(seed, name, k)).tobytes() for seed, k in others}
        assert len(found) > 1


@pytest.mark.parametrize("name", sorted(BLACK_STAYS))
def test_air_stays_black_where_the_signal_is_multiplied(name: Artefact) -> None:
    image = head()
    for severity in SEVERITIES:
        assert not corrupt(image, name, severity, draws_of(1, name, 0))[image == 0].any()


@pytest.mark.parametrize("name", ["bias_field", "contrast_up", "gamma_down", "brightness_up", "rician_noise"])
def test_the_brightest_pixels_do_not_wrap_around(name: Artefact) -> None:
    bright = np.full((64, 64), 250, np.uint8)
    bright[:8] = 240
    assert corrupt(bright, name, 5, draws_of(1, name, 0)).min() > 60


def test_a_bias_field_is_smooth_and_as_strong_as_stated() -> None:
    flat = np.full((100, 80), 90, np.uint8)
    for severity, amount in zip(SEVERITIES, ARTEFACTS["bias_field"].amounts, strict=True):
        field = np.log(corrupt(flat, "bias_field", severity, draws_of(1, "bias_field", 0)) / 90)
        assert np.abs(field).max() == pytest.approx(amount, abs=0.03)
        assert np.abs(np.diff(field, axis=0)).max() < 0.15 * amount


def test_noise_is_rician() -> None:
    """In air, the magnitude of two Gaussians: Rayleigh, with the mean sigma * sqrt(pi / 2)."""
    air, tissue = np.zeros((300, 300), np.uint8), np.full((300, 300), 128, np.uint8)
    for severity, share in zip(SEVERITIES[:3], ARTEFACTS["rician_noise"].amounts, strict=False):
        sigma = 255 * share
        noisy = corrupt(air, "rician_noise", severity, draws_of(1, "rician_noise", 0))
        assert noisy.mean() == pytest.approx(sigma * np.sqrt(np.pi / 2), rel=0.02)
        bright = corrupt(tissue, "rician_noise", severity, draws_of(1, "rician_noise", 0)).astype(float)
        assert bright.std() == pytest.approx(sigma, rel=0.05)
        assert (bright**2).mean() == pytest.approx(128**2 + 2 * sigma**2, rel=0.02), "Rice's second moment"


@pytest.mark.parametrize("side", [224, 448])
def test_ringing_keeps_the_same_lines_of_images_of_all_sizes(side: int) -> None:
    image = np.full((side, side), 60, np.uint8)  # bright enough to be neither folded nor clipped
    image[side // 4 : -side // 4, side // 4 : -side // 4] = 150
    ringing = corrupt(image, "gibbs_ringing", 3, draws_of(1, "gibbs_ringing", 0))
    assert ringing.max() > 160, "edges overshoot"
    spectrum = np.abs(np.fft.fft2(ringing.astype(float)))
    outside = np.abs(np.fft.fftfreq(side) * side) > 0.4 * 224 / 2 + 1
    before = np.abs(np.fft.fft2(image.astype(float)))
    assert (spectrum[outside] ** 2).sum() < 0.02 * (before[outside] ** 2).sum(), "but for the rounding"


def test_spikes_are_one_wave_of_the_stated_height() -> None:
    flat = np.full((128, 128), 100, np.uint8)
    for severity, amount in zip(SEVERITIES, ARTEFACTS["spikes"].amounts, strict=True):
        striped = corrupt(flat, "spikes", severity, draws_of(1, "spikes", 0)).astype(float) - 100
        assert np.abs(striped).max() == pytest.approx(100 * amount, abs=1)


def test_ghosts_repeat_the_head_at_even_distances() -> None:
    for k in range(6):
        point = np.zeros((120, 120), np.uint8)
        point[60, 60] = 255
        ghosts = corrupt(point, "ghosting", 5, draws_of(1, "ghosting", k))
        rows, columns = np.nonzero(ghosts > 15)
        assert len(set(rows)) == 1 or len(set(columns)) == 1, "along one axis"
        places = np.array(sorted(set(rows) | set(columns)))
        firsts = places[np.diff(places, prepend=-2) > 1]
        assert 4 <= len(firsts) <= 10
        assert np.ptp(np.diff(firsts)) <= 1


def test_motion_leaves_the_head_where_it_was() -> None:
    image = head()
    for severity in SEVERITIES:
        moved = corrupt(image, "motion", severity, draws_of(1, "motion", 3))
        assert np.corrcoef(moved.ravel(), image.ravel())[0, 1] > 0.8


def test_blur_is_that_of_an_image_of_224_pixels_whatever_the_size() -> None:
    small, large = (cv2.resize(head(), (side, side), interpolation=cv2.INTER_AREA) for side in (224, 448))
    blurred = corrupt(large, "blur", 4, draws_of(1, "blur", 0))
    shrunk = cv2.resize(blurred, (224, 224), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(shrunk - corrupt(small, "blur", 4, draws_of(1, "blur", 0))).mean() < 1


def test_contrast_spreads_tissue_about_its_mean() -> None:
    image = head()
    levels = {
        name: corrupt(image, name, 5, draws_of(1, name, 0)) for name in ("contrast_down", "contrast_up")
    }
    inside = image > 0
    for name, factor in (("contrast_down", 0.5), ("contrast_up", 1.8)):
        assert levels[name][inside].std() == pytest.approx(factor * image[inside].std(), rel=0.25)


def test_pixels_become_squares() -> None:
    found = corrupt(phantoms()[0], "pixelation", 5, draws_of(1, "pixelation", 0))
    same = (found[:, 1:] == found[:, :-1]).mean()
    assert same > 0.55, "0.35 of the pixels in a row are new ones"


def test_turns_and_shifts_go_to_both_sides() -> None:
    image = np.zeros((100, 100), np.uint8)
    image[40:60, 45:55] = 200
    middles = []
    for k in range(12):
        moments = cv2.moments(corrupt(image, "shift", 3, draws_of(1, "shift", k)))
        middles.append((round(moments["m10"] / moments["m00"]), round(moments["m01"] / moments["m00"])))
    assert len(set(middles)) == 4
    assert np.abs(np.array(middles) - 49.5).min() >= 9, "by a tenth of the sides"
    turned = {corrupt(image, "rotation", 3, draws_of(1, "rotation", k)).tobytes() for k in range(12)}
    assert len(turned) == 2
    assert np.array_equal(scanner.as_grey(scanner.move(image, 0, 0, 0)), image)


def test_unknown_names_and_severities_are_refused_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"artefact 'fog' is unknown: expected one of bias_field, .*shift"):
        corrupt(head(), "fog", 1, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="severity is 6: expected 1 to 5"):
        corrupt(head(), "blur", 6, np.random.default_rng(0))


def test_settings_refuse_unknown_artefacts_and_a_share_of_none() -> None:
    with pytest.raises(ValidationError, match="'bias_field', 'rician_noise'"):
        Config.model_validate({"train": {"augment": {"artefacts": ["fog"], "artefact_share": 0.5}}})
    with pytest.raises(ValidationError, match=r"artefacts names none: expected some of bias_field, "):
        AugmentConfig(artefact_share=0.5)
    assert AugmentConfig(artefacts=("blur",)).artefact_share == 0, "a sweep may try none"


STRONG: dict[str, Any] = {"rotation": 20, "shift": 0.1, "brightness": 0.2, "noise": 0.1, "flip": 0.5}


def augmented(seed: int, **more: Any) -> Grey:
    return augmentation.augment(head(), AugmentConfig(**{**STRONG, **more}), np.random.default_rng(seed))


def test_training_draws_artefacts_beside_its_other_augmentations() -> None:
    pairs = [(augmented(k), augmented(k, artefacts=("blur", "jpeg"), artefact_share=0.4)) for k in range(150)]
    changed = [not np.array_equal(plain, drawn) for plain, drawn in pairs]
    assert np.mean(changed) == pytest.approx(0.4, abs=0.12), "the others are bit for bit the same"
    kinds = set()
    for plain, drawn in pairs:
        for name, severity in itertools.product(("blur", "jpeg", "pixelation"), SEVERITIES):
            if np.array_equal(corrupt(plain, name, severity, np.random.default_rng(0)), drawn):
                kinds.add((name, severity))
    assert kinds == set(itertools.product(("blur", "jpeg"), SEVERITIES)), "all severities, no other artefact"


def test_what_training_draws_depends_on_the_generator_alone() -> None:
    every = {"artefacts": NAMES, "artefact_share": 1.0}
    assert all(np.array_equal(augmented(k, **every), augmented(k, **every)) for k in range(30))
    assert len({augmented(k, **every).tobytes() for k in range(30)}) == 30


def test_without_a_share_nothing_changes() -> None:
    assert all(np.array_equal(augmented(k), augmented(k, artefacts=NAMES)) for k in range(30))


def test_artefacts_that_are_not_asked_for_leave_the_id_of_a_data_set() -> None:
    facts = {"split": "train", "path": "a.png", "label": 0, "file_sha256": "x", "copies": 2, "cluster": 0}
    manifest = pd.DataFrame([facts | dict.fromkeys(BOX, 0) | {"image_id": 4}])
    settings = DataConfig().model_dump(mode="json")
    plain = {name: value for name, value in settings["balance"].items() if not name.startswith("artefact")}
    asked = plain | {"artefacts": ["blur"], "artefact_share": 0.5}
    ids = [rows_digest(manifest, 1, settings | {"balance": balance}) for balance in (plain, asked)]
    assert rows_digest(manifest, 1, settings) == ids[0] != ids[1]
