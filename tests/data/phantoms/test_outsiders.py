"""Outsiders: each of its kind, the same for the same numbers, and a change leaves its source alone."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.arrays import Grey
from brain_ray.config import CropConfig
from brain_ray.data.phantoms import outsiders
from brain_ray.data.phantoms.files import draw
from brain_ray.data.transforms import find_box

DRAWN = outsiders.FAR | outsiders.BODY_PARTS


def head(index: int) -> Grey:
    drawn = draw("glioma", 3, index)
    return drawn if drawn.ndim == 2 else np.ascontiguousarray(drawn[..., 0])


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", DRAWN)
def test_the_same_numbers_draw_the_same_outsider_and_others_another(kind: str) -> None:
    found = [DRAWN[kind](rng(seed)) for seed in (0, 0, 1)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert (found[0].dtype, found[0].ndim) == (np.uint8, 2)
    assert min(found[0].shape) >= 64


@pytest.mark.parametrize("kind", outsiders.CHANGES)
def test_a_change_differs_from_its_source_and_leaves_it_alone(kind: str) -> None:
    source = head(1)
    before = source.copy()
    found = outsiders.CHANGES[kind](source, rng())
    assert np.array_equal(source, before)
    assert (found.dtype, found.ndim) == (np.uint8, 2)
    assert found.shape != source.shape or not np.array_equal(found, source)
    assert np.array_equal(outsiders.CHANGES[kind](source, rng()), found)


@pytest.mark.parametrize("kind", outsiders.CHANGES)
@pytest.mark.parametrize("source", [np.zeros((40, 50), np.uint8), np.full((9, 7), 200, np.uint8)])
def test_images_without_a_head_can_be_changed_too(kind: str, source: NDArray[np.uint8]) -> None:
    assert outsiders.CHANGES[kind](source, rng()).size > 0


@pytest.mark.parametrize("kind", outsiders.BODY_PARTS)
def test_a_body_part_is_found_and_cropped_like_a_head(kind: str) -> None:
    """So it is refused for what it shows, if it is, and not because of an empty frame."""
    images = [outsiders.BODY_PARTS[kind](rng(seed)) for seed in range(20)]
    assert sum(find_box(image, CropConfig()) is not None for image in images) >= 18
    assert np.mean([(image < 40).mean() for image in images]) > 0.2, "the background is dark"


def test_a_ct_like_image_has_a_white_rim_and_an_even_middle() -> None:
    for index in range(6):
        source = head(index)
        found = outsiders.ct_like(source, rng(index))
        height, width = source.shape
        middle = np.s_[height * 2 // 5 : height * 3 // 5, width * 2 // 5 : width * 3 // 5]
        assert found[middle].std() < 0.7 * source[middle].std()
        white = found == 255
        assert white.mean() > 0.03
        assert white[middle].mean() < 0.01
        assert found[0, 0] == 0


def test_turns_keep_the_pixels() -> None:
    source = head(2)
    assert np.array_equal(outsiders.upside_down(source, rng())[::-1, ::-1], source)
    found = {seed: outsiders.quarter_turn(source, rng(seed)) for seed in range(8)}
    ways = {
        int(np.argmax([np.array_equal(np.rot90(each, k), source) for k in range(4)]))
        for each in found.values()
    }
    assert ways == {1, 3}


def test_inverted_levels_and_another_contrast_differ_in_the_background() -> None:
    source = head(3)
    dark: Callable[[Grey], bool] = lambda image: bool(image[:3].mean() < 60)  # noqa: E731
    assert dark(source)
    assert not dark(outsiders.inverted(source, rng()))
    changed = outsiders.other_contrast(source, rng())
    assert dark(changed)
    inside = np.s_[
        source.shape[0] // 3 : -(source.shape[0] // 3), source.shape[1] // 3 : -(source.shape[1] // 3)
    ]
    assert np.corrcoef(changed[inside].ravel(), source[inside].ravel())[0, 1] < -0.9


def test_a_part_is_cut_out_of_the_head() -> None:
    source = head(4)
    box = find_box(source, CropConfig())
    assert box is not None
    for seed in range(10):
        part = outsiders.cropped(source, rng(seed))
        share = np.array(part.shape) / box.crop(source).shape
        assert ((share > 0.33) & (share < 0.57)).all()
        whole = box.crop(source)
        _, _, (left, top), _ = cv2.minMaxLoc(cv2.matchTemplate(whole, part, cv2.TM_SQDIFF))
        assert np.array_equal(whole[top : top + part.shape[0], left : left + part.shape[1]], part)
