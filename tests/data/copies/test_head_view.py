"""The view of a head is the same wherever the head lies, and whatever its grey levels."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from support.slices import Grey, framed, gamma, moved, slice_of

from brain_ray.config import CropConfig
from brain_ray.data.copies.head_view import SIDE, rank, view_head, view_twice
from brain_ray.data.transforms import Box, find_box

CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "shifted": lambda image: moved(image, right=0.05, down=-0.04),
    "smaller": lambda image: moved(image, zoom=0.6),
    "darker and flatter": lambda image: np.asarray(0.5 * image + 40, np.uint8),
    "gamma 0.6": lambda image: gamma(image, 0.6),
    "gamma 1.6": lambda image: gamma(image, 1.6),
    "a black margin": lambda image: framed(image, 0.2, 0),
    "a white margin": lambda image: framed(image, 0.2, 255),
    "cut to the head": lambda image: find(image).crop(image),
    "twice as wide": lambda image: np.repeat(np.repeat(image, 2, axis=0), 2, axis=1),
}


def find(image: Grey) -> Box:
    box = find_box(image, CropConfig())
    assert box is not None
    return box


def likeness(first: Grey, second: Grey) -> float:
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])


@pytest.mark.parametrize("change", CHANGES)
def test_the_same_head_has_the_same_view(change: str) -> None:
    for seed in range(5):
        image = slice_of(seed)
        assert likeness(view_head(image).ranks, view_head(CHANGES[change](image)).ranks) > 0.93


def test_other_heads_have_other_views() -> None:
    views = [view_head(slice_of(seed)).ranks[16:48, 16:48] for seed in range(5)]
    assert max(likeness(one, other) for k, one in enumerate(views) for other in views[:k]) < 0.6


def test_a_view_tells_where_the_head_lies() -> None:
    image = moved(slice_of(3), zoom=0.5, right=0.1, down=-0.05)
    view = view_head(image)
    assert view.x == pytest.approx(99.5 + 20, abs=1.5)
    assert view.y == pytest.approx(99.5 - 10, abs=1.5)
    assert view.size == pytest.approx(0.5 * 200 * np.sqrt(np.pi * 0.33 * 0.42), rel=0.03)


@pytest.mark.parametrize("shape", [(16, 16), (16, 900), (700, 17), (64, 64)])
def test_every_image_has_a_view(shape: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    line = np.zeros(shape, np.uint8)
    line[:, 3] = 200
    speck = np.zeros(shape, np.uint8)
    speck[5:7, 5:9] = 200
    for image in (noise, line, speck, np.zeros(shape, np.uint8), np.full(shape, 255, np.uint8)):
        view = view_head(image)
        assert view.ranks.shape == (SIDE, SIDE)
        assert view.ranks.any()
        assert np.isfinite([view.x, view.y, view.size]).all()


def test_a_uniform_head_has_one_rank() -> None:
    ranks = view_head(np.full((100, 80), 70, np.uint8)).ranks
    assert set(np.unique(ranks)) == {0, 128}


def test_ranks_depend_on_the_order_of_levels_alone() -> None:
    levels = np.random.default_rng(2).integers(0, 100, (SIDE, SIDE)).astype(np.uint8)
    inside = np.zeros((SIDE, SIDE), np.uint8)
    inside[10:50, 20:60] = 1
    ranks = rank(levels, inside)
    assert np.array_equal(ranks, rank(np.asarray(2 * levels + 7, np.uint8), inside))
    assert not ranks[inside == 0].any()
    assert 1 <= ranks[inside == 1].min() < 5
    assert 250 < ranks[inside == 1].max() <= 255


def test_a_crop_that_cuts_nothing_off_shares_the_view_of_the_whole() -> None:
    image = slice_of(4)
    views, heads = view_twice(image, find(image))
    assert np.array_equal(views[0], views[1])
    assert heads[:3] == heads[3:]


def test_a_crop_that_shows_a_part_has_the_view_of_its_copy() -> None:
    image = slice_of(5)
    box = Box(60, 150, 70, 160)
    views, heads = view_twice(image, box)
    alone = view_head(box.crop(image))
    assert np.array_equal(views[1], alone.ranks)
    assert heads[3:] == pytest.approx([alone.x + 70, alone.y + 60, alone.size])
    assert likeness(views[0], views[1]) < 0.8


def test_views_are_bytes_that_travel_between_processes() -> None:
    views, _ = view_twice(slice_of(6), Box(0, 200, 0, 200))
    assert isinstance(views, np.ndarray)
    kind: NDArray[np.uint8] = views
    assert (kind.dtype, kind.shape) == (np.uint8, (2, SIDE, SIDE))
