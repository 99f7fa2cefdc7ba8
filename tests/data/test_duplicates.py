"""Copies are found the same, however the images lie in blocks and the blocks in groups."""

from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import ray.data

from brain_ray.arrays import fixed_size
from brain_ray.data import similarity
from brain_ray.data.duplicates import (
    NO_PAIRS,
    find_candidates,
    find_copies,
    select_embeddings,
    verify_candidates,
)
from brain_ray.data.transforms import THUMBNAIL_SIDE

COUNT = 60
NONE = np.empty(0, np.int64)


@pytest.fixture(scope="module")
def thumbnails() -> np.ndarray:
    """Smooth pictures without a copy, but for planted ones: mirrored, turned, brighter."""
    rng = np.random.default_rng(5)
    coarse = rng.uniform(0, 200, (COUNT, 12, 12))
    images = np.repeat(np.repeat(coarse, 8, axis=1), 8, axis=2).astype(np.uint8)
    assert images.shape[1:] == (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    images[41] = images[3, :, ::-1]
    images[42] = images[3, ::-1, ::-1]
    images[7] = images[6] // 2 + 40
    images[59] = images[0]
    return images


def block(thumbnails: np.ndarray, start: int, stop: int) -> pa.Table:
    part = thumbnails[start:stop]
    columns = {"thumbnail": fixed_size(part), "embedding": fixed_size(similarity.embed(part))}
    return pa.table({**columns, "image_id": np.arange(start, stop)})


@pytest.mark.parametrize("size", [60, 17, 5])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_copies_do_not_depend_on_blocks_and_groups(thumbnails: np.ndarray, size: int, group: int) -> None:
    blocks = [block(thumbnails, k, min(k + size, COUNT)) for k in range(0, COUNT, size)]
    groups = [blocks[k : k + group] for k in range(0, len(blocks), group)]
    found = [NO_PAIRS]
    for one, other in combinations_with_replacement(groups, 2):
        members = one if one is other else [*one, *other]
        embeddings = [select_embeddings(member, NONE) for member in members]
        for i, j, a, b in find_candidates(0.97, len(one), *embeddings):
            found.append(verify_candidates(one[i], other[j], a, b, 0.97))
    pairs = pd.concat(found).sort_values(["a", "b"], ignore_index=True)
    assert list(zip(pairs["a"], pairs["b"], pairs["transform"], strict=True)) == [
        (0, 59, "identity"),
        (3, 41, "mirrored"),
        (3, 42, "turned"),
        (6, 7, "identity"),
        (41, 42, "flipped"),
    ]
    assert (pairs["similarity"] > 0.99).all()


def test_candidates_are_found_without_the_thumbnails(thumbnails: np.ndarray) -> None:
    whole = block(thumbnails, 0, COUNT)
    assert select_embeddings(whole, NONE).nbytes < whole.nbytes / 8


def test_what_is_passed_over_and_what_is_even_is_no_candidate(thumbnails: np.ndarray) -> None:
    images = thumbnails.copy()
    images[10:40] = np.arange(30)[:, None, None]
    found = find_candidates(0.97, 1, select_embeddings(block(images, 0, COUNT), np.array([0, 41, 59])))
    assert [(i, j, a.tolist(), b.tolist()) for i, j, a, b in found] == [(0, 0, [3, 6], [42, 7])]


def test_no_pairs_have_the_columns_of_some() -> None:
    empty = np.empty(0, np.int64)
    images = np.zeros((2, THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    none = verify_candidates(block(images, 0, 2), block(images, 0, 2), empty, empty, 0.97)
    pd.testing.assert_frame_equal(NO_PAIRS, none, check_dtype=False)


def similar_pairs(images: np.ndarray, lowest: float) -> dict[tuple[int, int], float]:
    """The similarity of each two pictures, in their best position, that reaches a value: by brute force."""
    views = [images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]]
    unit = [similarity.normalise(np.ascontiguousarray(view)) for view in views]
    best = np.max([unit[0] @ view.T for view in unit], axis=0)
    return {(int(a), int(b)): float(best[a, b]) for a, b in np.argwhere(best >= lowest) if a < b}


@pytest.mark.parametrize("threshold", [0.93, 0.98, 0.99])
def test_copies_and_near_misses_follow_the_threshold(threshold: float, ray_cluster: None) -> None:
    rng = np.random.default_rng(2)
    one, other = np.kron(rng.uniform(0, 200, (2, 40, 12, 12)), np.ones((8, 8)))
    shares = np.linspace(0.4, 1.0, 40)[:, None, None]
    images = np.concatenate([one, (one * shares + other * (1 - shares))[:, :, ::-1]]).astype(np.uint8)
    hashes = [f"hash{k}" for k in range(len(images))]
    table = pd.DataFrame(
        {
            "image_id": range(len(images)),
            "path": hashes,
            "class_name": "glioma",
            "source_split": "train",
            "pixel_sha256": hashes,
            "file_sha256": hashes,
        }
    )
    scanned = ray.data.from_blocks([block(images, k, k + 16) for k in range(0, len(images), 16)])
    pairs, near_misses = find_copies(scanned, table, threshold)

    expected = similar_pairs(images, threshold)
    assert 5 < len(expected) < 40
    assert set(zip(pairs["a"], pairs["b"], strict=True)) == expected.keys()
    lowest = min(0.97, threshold - 0.02)
    assert near_misses == len(similar_pairs(images, lowest)) - len(expected) > 0
