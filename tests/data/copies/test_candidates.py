"""Candidates are the same however images are grouped; copies are among them, different slices are not."""

import numpy as np
import pytest
from support.slices import gamma, moved, slice_of, views_of

from brain_ray.data.copies.candidates import CANDIDATE, Index, index, search

COUNT = 24
COPIES = {(0, 20): "as it is", (1, 21): "turned", (2, 22): "zoomed", (3, 23): "mirrored and darker"}


@pytest.fixture(scope="module")
def images() -> Index:
    found = [slice_of(seed) for seed in range(COUNT)]
    found[20] = found[0]
    found[21] = moved(found[1], 8)
    found[22] = moved(found[2], zoom=0.9, right=0.03)
    found[23] = gamma(np.ascontiguousarray(found[3][:, ::-1]), 1.4)
    return index(views_of(found))


def some(found: Index, start: int, stop: int) -> Index:
    return Index(found.embeddings[start:stop], found.packed[start:stop])


@pytest.mark.parametrize("step", [512, 7, 1])
def test_copies_are_candidates_and_different_slices_are_not(images: Index, step: int) -> None:
    found = search(images, step=step)
    assert found.dtype == CANDIDATE
    assert set(zip(found["a"].tolist(), found["b"].tolist(), strict=True)) == set(COPIES)
    assert found[["a", "b"]].tolist() == sorted(found[["a", "b"]].tolist())


@pytest.mark.parametrize("cut", [5, 20, 22])
def test_groups_do_not_change_the_candidates(images: Index, cut: int) -> None:
    first, second = some(images, 0, cut), some(images, cut, COUNT)
    parts = [search(first), search(second), search(first, second)]
    parts[1]["a"] += cut
    parts[1]["b"] += cut
    parts[2]["b"] += cut
    found = np.concatenate(parts)
    assert sorted(zip(found["a"].tolist(), found["b"].tolist(), strict=True)) == sorted(COPIES)


def test_the_pose_comes_with_a_candidate(images: Index) -> None:
    found = {(row["a"], row["b"]): row for row in search(images)}
    turned = found[1, 21]["pose"]
    assert np.degrees(np.arctan2(turned[1, 0], turned[0, 0])) == pytest.approx(-8, abs=1.5)
    assert np.linalg.det(found[3, 23]["pose"][:, :2]) == pytest.approx(-1, abs=0.05)


def test_zeros_resemble_nothing(images: Index) -> None:
    embeddings = images.embeddings.copy()
    embeddings[[0, 21]] = 0
    found = search(Index(embeddings, images.packed))
    assert set(zip(found["a"].tolist(), found["b"].tolist(), strict=True)) == {(2, 22), (3, 23)}


def test_no_images_have_no_candidates() -> None:
    none = index(np.empty((0, 2, 64, 64), np.uint8))
    assert len(search(none)) == len(search(none, none)) == 0


def test_a_pair_is_found_by_its_crops_where_the_whole_images_differ() -> None:
    whole = views_of([slice_of(seed) for seed in range(4)])
    whole[3, 1] = whole[0, 1]
    (found,) = search(index(whole))
    assert (found["a"], found["b"], found["view"]) == (0, 3, 1)
