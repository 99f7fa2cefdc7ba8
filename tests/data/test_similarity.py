"""The audit for copies: no pair is missed, none is invented."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from brain_ray.data import similarity

VIEWS = {
    "identity": lambda image: image,
    "mirrored": lambda image: image[:, ::-1],
    "flipped": lambda image: image[::-1],
    "turned": lambda image: image[::-1, ::-1],
}


def pictures(count: int, seed: int = 0, smooth: int = 8) -> NDArray[np.uint8]:
    """Random smooth pictures, (count, 96, 96)."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(count, 96 // smooth, 96 // smooth))
    fine = np.kron(coarse, np.ones((smooth, smooth))) + rng.normal(0, 0.1, (count, 96, 96))
    return np.clip(128 + 40 * fine, 0, 255).astype(np.uint8)


def brute_force(images: NDArray[np.uint8], threshold: float) -> set[tuple[int, int]]:
    unit = similarity.normalise(images)
    views = [
        similarity.normalise(np.ascontiguousarray(np.stack([view(i) for i in images])))
        for view in VIEWS.values()
    ]
    best = np.max([unit @ view.T for view in views], axis=0)
    return {(int(a), int(b)) for a, b in np.argwhere(best >= threshold) if a < b}


def found(images: NDArray[np.uint8], threshold: float) -> similarity.Pairs:
    embedded = similarity.embed(images, step=9)
    a, b = similarity.candidates(embedded, embedded, threshold, step=7)
    return similarity.verify(images, images, a[a < b], b[a < b], threshold, step=5)


@pytest.mark.parametrize("name", VIEWS)
def test_a_copy_is_found_in_every_position(name: str) -> None:
    images = pictures(20)
    images[13] = VIEWS[name](images[4])
    pairs = found(images, 0.99)
    assert list(zip(pairs.a, pairs.b, strict=True)) == [(4, 13)]
    assert similarity.TRANSFORMS[int(pairs.transform[0])] == name
    assert pairs.similarity[0] == pytest.approx(1.0, abs=1e-5)


def test_brightness_contrast_and_noise_do_not_hide_a_copy() -> None:
    images = pictures(10)
    noise = np.random.default_rng(5).normal(0, 2, (96, 96))
    images[7] = np.clip(images[2][:, ::-1] * 0.7 + 20 + noise, 0, 255).astype(np.uint8)
    pairs = found(images, 0.99)
    assert list(zip(pairs.a, pairs.b, strict=True)) == [(2, 7)]


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.9])
@pytest.mark.parametrize("smooth", [2, 8])
def test_no_pair_that_reaches_the_threshold_is_missed(threshold: float, smooth: int) -> None:
    images = pictures(60, seed=3, smooth=smooth)
    mixed = pictures(60, seed=4, smooth=smooth)
    weights = np.linspace(0, 1, 60)[:, None, None]
    images = np.concatenate([images, (images * weights + mixed * (1 - weights)).astype(np.uint8)[:, ::-1]])
    pairs = found(images, threshold)
    assert {(int(a), int(b)) for a, b in zip(pairs.a, pairs.b, strict=True)} == brute_force(images, threshold)


def test_even_pictures_resemble_nothing() -> None:
    images = np.stack([np.zeros((96, 96)), np.full((96, 96), 200), pictures(1)[0]]).astype(np.uint8)
    assert len(found(images, 0.97).a) == 0


def test_clusters_join_chains_of_pairs() -> None:
    ids = similarity.cluster(6, np.array([0, 2]), np.array([2, 5]))
    assert ids[0] == ids[2] == ids[5]
    assert len(set(ids.tolist())) == 4


def test_equal_hashes_are_chained() -> None:
    a, b = similarity.equal_pairs(pd.Series(["x", "y", "x", "z", "x"]))
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(0, 2), (2, 4)]
