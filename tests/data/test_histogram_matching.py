"""Histogram matching: heads take each other's quantiles, air stays dark, no pixel moves."""

import numpy as np
from numpy.typing import NDArray

from brain_ray.data.histogram_matching import match_histograms


def head(low: int, high: int, seed: int = 0) -> NDArray[np.uint8]:
    """A head, (64, 64, 1), of evenly drawn levels in black air."""
    image = np.zeros((64, 64, 1), np.uint8)
    image[16:48, 16:48] = np.random.default_rng(seed).integers(low, high + 1, (32, 32, 1))
    return image


def levels(image: NDArray[np.uint8]) -> list[float]:
    return np.quantile(image[16:48, 16:48], [0.02, 0.25, 0.5, 0.75, 0.98]).tolist()


def test_a_head_has_the_quantiles_of_the_other_one() -> None:
    dark, bright = head(40, 80), head(100, 250, seed=1)
    swapped = 0
    for seed in range(20):
        found = match_histograms(np.stack([dark, bright]), 1.0, np.random.default_rng(seed))
        expected = (
            (bright, dark) if not np.allclose(levels(found[0]), levels(dark), atol=2) else (dark, bright)
        )
        swapped += expected[0] is bright
        for image, like in zip(found, expected, strict=True):
            np.testing.assert_allclose(levels(image), levels(like), atol=2)
            assert not image[:16].any(), "air stays black"
    assert 0 < swapped < 20


def test_no_pixel_moves() -> None:
    images = np.stack([head(40, 80), head(60, 250, seed=1), head(20, 255, seed=2)])
    for image, found in zip(images, match_histograms(images, 1.0, np.random.default_rng(1)), strict=True):
        order = np.argsort(image.ravel(), kind="stable")
        assert (np.diff(found.ravel()[order].astype(int)) >= 0).all()


def test_as_many_images_are_changed_as_asked_for() -> None:
    images = np.stack([head(20 + k, 100 + k, seed=k) for k in range(100)])
    first, again, none = (
        match_histograms(images, share, np.random.default_rng(3)) for share in (0.4, 0.4, 0.0)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(none, images)
    assert 25 <= (first != images).any(axis=(1, 2, 3)).sum() <= 50


def test_what_has_no_head_is_no_obstacle() -> None:
    blank, full = np.zeros((64, 64, 1), np.uint8), np.full((64, 64, 1), 255, np.uint8)
    for seed in range(4):
        found = match_histograms(np.stack([blank, full, head(40, 80)]), 1.0, np.random.default_rng(seed))
        assert found.shape == (3, 64, 64, 1)
        assert not found[0].any()
    assert match_histograms(blank[np.newaxis], 1.0, np.random.default_rng(0)).tolist() == [blank.tolist()]
