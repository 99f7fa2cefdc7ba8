"""Copies pass the verification, whatever was done to them; near slices are near misses, others nothing."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from support.slices import Grey, framed, gamma, moved, slice_of, views_of

from brain_ray.data.copies.candidates import index, search
from brain_ray.data.copies.verification import MARGIN, Pairs, alike, verify

THRESHOLD = 0.97

CHANGES: dict[str, Callable[[Grey], Grey]] = {
    "turned left": lambda image: np.ascontiguousarray(np.rot90(image)),
    "transposed": lambda image: np.ascontiguousarray(image.T),
    "gamma 1.6": lambda image: gamma(image, 1.6),
    "shifted": lambda image: moved(image, right=0.03, down=0.03),
    "zoomed": lambda image: moved(image, zoom=1.05),
    "turned by 3 degrees": lambda image: moved(image, 3),
    "turned by 25 degrees": lambda image: moved(image, 25),
    "flipped, turned, smaller": lambda image: moved(np.ascontiguousarray(image[::-1]), 7, 0.8),
    "a grey margin": lambda image: framed(image, 0.15, 90),
}


def pairs_of(images: list[Grey], threshold: float = THRESHOLD) -> Pairs:
    views = views_of(images)
    return verify(views, search(index(views)), threshold)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_copy_is_found(change: str) -> None:
    images = [slice_of(seed) for seed in range(6)]
    found = pairs_of([*images, *(CHANGES[change](image) for image in images)])
    assert list(zip(found.a.tolist(), found.b.tolist(), strict=True)) == [(k, k + 6) for k in range(6)]
    assert found.similarity.min() >= THRESHOLD


def test_what_lies_in_one_of_eight_orientations_needs_no_alignment() -> None:
    images = [slice_of(seed) for seed in range(3)]
    (turned,) = pairs_of([images[0], np.ascontiguousarray(np.rot90(images[0]))]).aligned
    (oblique,) = pairs_of([images[1], moved(images[1], 20)]).aligned
    assert not turned
    assert oblique


def test_similarity_falls_with_distance_between_slices() -> None:
    near = pairs_of([slice_of(1, height=height) for height in (0, 0.12)], 0.7)
    far = pairs_of([slice_of(1, height=height) for height in (0, 0.3)], 0.7)
    assert near.similarity[0] > 0.95 > far.similarity[0]


@pytest.mark.parametrize("threshold", [0.92, 0.95, 0.98])
def test_the_threshold_decides_what_is_a_copy_and_what_a_near_miss(threshold: float) -> None:
    images = [slice_of(1, height=height) for height in np.linspace(0, 0.6, 8)]
    every = pairs_of(images, 0.7)
    found = pairs_of(images, threshold)
    expected = every.similarity >= threshold - MARGIN + 0.005
    kept = set(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert set(zip(every.a[expected].tolist(), every.b[expected].tolist(), strict=True)) <= kept
    assert found.similarity.min() >= threshold - MARGIN
    assert (found.similarity >= threshold).sum() < len(every.a)


def test_heads_in_a_bright_frame_are_no_copies_of_each_other() -> None:
    def screenshot(image: Grey) -> Grey:
        small = moved(image, zoom=0.6) // 3
        small[:20], small[-20:], small[:, :20], small[:, -20:] = 255, 255, 255, 255
        small[3:9, 30:90:4] = 0  # letters
        return small

    assert len(pairs_of([screenshot(slice_of(seed)) for seed in range(8)]).a) == 0


def test_no_candidates_are_no_pairs() -> None:
    views = views_of([slice_of(1)])
    found = verify(views, search(index(views)), THRESHOLD)
    assert (len(found.a), found.transforms.shape, found.num_aligned) == (0, (0, 2, 3), 0)


def test_pairs_without_a_pose_are_compared_too() -> None:
    image = slice_of(1)
    views: NDArray[np.uint8] = views_of([image, moved(image, 40), slice_of(2), np.zeros_like(image)])
    a, b = np.array([0, 0, 1, 3]), np.array([1, 2, 2, 0])
    assert alike(views, a, b, 0.9).tolist() == [True, False, False, False]
