"""Heat maps are held against outlines: where their maximum, their energy and their best cut lie."""

import numpy as np
import pytest
from numpy.typing import NDArray

from brain_ray.scoring.localisation import MEASURES, brightness_map, centre_map, localise

SHAPE = (100, 140)
HEAD = (slice(10, 90), slice(20, 120))


def square(top: int, left: int, side: int = 20) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def bump(row: float, column: float, sigma: float = 8.0) -> NDArray[np.float64]:
    rows, columns = np.indices(SHAPE)
    return np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * sigma**2))


def test_a_map_that_is_the_outline_is_perfect() -> None:
    mask = square(30, 40)
    found = localise(mask.astype(np.float32), mask)
    assert [getattr(found, name) for name in MEASURES] == [1, 1, 1, 1]


def test_a_map_elsewhere_has_nothing() -> None:
    found = localise(square(70, 100).astype(np.float32), square(10, 10))
    assert [getattr(found, name) for name in MEASURES] == [0, 0, 0, 0]


def test_an_empty_map_counts_as_a_miss_everywhere() -> None:
    found = localise(np.zeros(SHAPE), square(0, 0))  # whose first pixel is that of argmax
    assert [getattr(found, name) for name in MEASURES] == [0, 0, 0, 0]


def test_energy_is_the_share_of_the_maps_sum() -> None:
    heat = 3.0 * square(30, 40) + 1.0 * square(60, 100)
    assert localise(heat, square(30, 40)).energy == pytest.approx(0.75)


def test_the_best_cut_is_found_at_any_height() -> None:
    heat = 0.3 * square(30, 40) + 1.0 * square(35, 45, 4)
    assert localise(heat, square(30, 40)).iou == 1.0, "cut at 0.3 and below"
    assert localise(heat + 0.2 * square(60, 100), square(30, 40)).iou == 1.0, "above 0.2"
    inner = localise(heat, square(35, 45, 4))
    assert inner.iou == 1.0, "above 0.3"
    assert inner.energy == pytest.approx(16 * 1.3 / (16 + 0.3 * 400))


@pytest.mark.parametrize(("off", "near"), [(6, 1.0), (7, 0.0)])
def test_the_tolerance_is_15_pixels_of_an_image_of_224(off: int, near: float) -> None:
    mask = np.zeros(SHAPE, bool)
    mask[50, 50] = True
    heat = np.zeros(SHAPE)
    heat[50, 50 + off] = 1  # 15 / 224 of 100 pixels are 6.7
    assert (localise(heat, mask).pointing, localise(heat, mask).near) == (0.0, near)


def test_equal_maxima_count_by_their_share() -> None:
    heat = (square(30, 40) | square(30, 100)).astype(float)
    assert localise(heat, square(30, 40)).pointing == 0.5


def test_what_cannot_be_compared_is_refused() -> None:
    mask = square(30, 40)
    with pytest.raises(ValueError, match=r"\(100, 139\).*\(100, 140\)"):
        localise(np.ones((100, 139)), mask)
    with pytest.raises(ValueError, match="empty"):
        localise(np.ones(SHAPE), np.zeros(SHAPE, bool))
    for wrong in (-1.0, np.nan, np.inf):
        heat = np.ones(SHAPE)
        heat[3, 3] = wrong
        with pytest.raises(ValueError, match="negative or undefined"):
            localise(heat, mask)


def test_the_centre_map_points_at_the_middle_of_the_head() -> None:
    found = centre_map(SHAPE, HEAD)
    peaks = np.argwhere(found == found.max())
    assert peaks.mean(axis=0).tolist() == [49.5, 69.5]
    outside = np.ones(SHAPE, bool)
    outside[HEAD] = False
    assert not found[outside].any()
    assert localise(found, square(40, 60)).pointing == 1.0
    assert localise(found, square(12, 22)).pointing == 0.0


def test_the_brightness_map_points_at_the_brightest_region_of_the_head() -> None:
    image = np.full(SHAPE, 60, np.uint8)
    image[30:50, 40:60] = 200
    image[70, 70] = 255  # a single pixel is no region
    image[:8] = 255  # nor is what is outside the head
    found = brightness_map(image, HEAD)
    assert localise(found, square(30, 40)).pointing == 1.0
    assert not found[:10].any()


def test_a_wide_map_has_less_energy_in_the_outline_than_a_narrow_one() -> None:
    mask = square(40, 60)
    found = [localise(bump(49.5, 69.5, sigma), mask).energy for sigma in (3, 6, 12, 24)]
    assert found == sorted(found, reverse=True)
    assert localise(bump(49.5, 69.5, 6), mask).iou > 0.7
