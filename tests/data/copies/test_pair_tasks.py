"""Copies are found the same, however the images lie in blocks and the blocks in groups."""

from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from support.slices import moved, slice_of, views_of

from brain_ray.arrays import fixed_size
from brain_ray.data.copies.candidates import index
from brain_ray.data.copies.pair_tasks import (
    NO_PAIRS,
    alike_images,
    find_candidates,
    select_index,
    take_images,
    take_rows,
    verify_candidates,
)
from brain_ray.data.copies.whitening import whitening

COUNT = 40
NONE = np.empty(0, np.int64)
PLAIN = whitening([])
IDS = 100 + np.random.default_rng(4).permutation(COUNT)
"""image_id of each row."""

PLANTED = {
    (3, 31): "mirrored",
    (3, 32): "turned",
    (31, 32): "flipped",
    (6, 7): "identity",
    (0, 39): "identity",
}


@pytest.fixture(scope="module")
def views() -> np.ndarray:
    images = [slice_of(seed) for seed in range(COUNT)]
    images[31] = np.ascontiguousarray(images[3][:, ::-1])
    images[32] = np.ascontiguousarray(images[3][::-1, ::-1])
    images[7] = moved(images[6], 6, right=0.02) // 2 + 40
    images[39] = images[0]
    return views_of(images)


def block(views: np.ndarray, start: int, stop: int) -> pa.Table:
    part = views[start:stop]
    found = index(part)
    heads = np.tile(np.array([100, 100, 120], np.float32), (len(part), 2, 1))
    columns = {"views": part, "heads": heads, "embeddings": found.embeddings, "spectra": found.packed}
    table = pa.table({name: fixed_size(column) for name, column in columns.items()})
    side = np.full(len(part), 200)
    return (
        table.append_column("image_id", pa.array(IDS[start:stop]))
        .append_column("width", pa.array(side))
        .append_column("height", pa.array(side))
    )


@pytest.mark.parametrize("size", [40, 17, 5])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_copies_do_not_depend_on_blocks_and_groups(views: np.ndarray, size: int, group: int) -> None:
    blocks = [block(views, k, min(k + size, COUNT)) for k in range(0, COUNT, size)]
    groups = [blocks[k : k + group] for k in range(0, len(blocks), group)]
    found = [NO_PAIRS]
    for one, other in combinations_with_replacement(groups, 2):
        members = one if one is other else [*one, *other]
        used, candidates = find_candidates(
            PLAIN.floor, len(one), *(select_index(member, NONE, PLAIN) for member in members)
        )
        if used:
            rows = [take_rows(members[number], candidates, start) for number, start in used]
            found.append(verify_candidates(candidates, 0.97, *rows))
    pairs = pd.concat(found)
    told = {frozenset((row.a, row.b)): row.transform for row in pairs.itertuples()}
    assert told == {frozenset(IDS[list(pair)].tolist()): name for pair, name in PLANTED.items()}
    assert (pairs["a"] < pairs["b"]).all()
    assert (pairs["similarity"] > 0.97).all()


def test_only_rows_of_candidates_are_taken(views: np.ndarray) -> None:
    blocks = [block(views, k, k + 10) for k in range(0, COUNT, 10)]
    used, candidates = find_candidates(
        PLAIN.floor, 4, *(select_index(member, NONE, PLAIN) for member in blocks)
    )
    taken = {number: take_rows(blocks[number], candidates, start) for number, start in used}
    assert {k: set(rows["image_id"].to_pylist()) for k, rows in taken.items()} == {
        0: set(IDS[[0, 3, 6, 7]].tolist()),
        3: set(IDS[[31, 32, 39]].tolist()),
    }


def test_candidates_are_found_without_the_views(views: np.ndarray) -> None:
    whole = block(views, 0, COUNT)
    assert select_index(whole, NONE, PLAIN).nbytes < whole.nbytes / 6


def test_what_is_passed_over_is_no_candidate(views: np.ndarray) -> None:
    over = select_index(block(views, 0, COUNT), IDS[[0, 7, 31]], PLAIN)
    _, candidates = find_candidates(PLAIN.floor, 1, over)
    assert list(zip(candidates["a"].to_pylist(), candidates["b"].to_pylist(), strict=True)) == [(3, 32)]


def test_no_pairs_have_the_columns_of_some(views: np.ndarray) -> None:
    whole = block(views, 8, 20)
    used, candidates = find_candidates(PLAIN.floor, 1, select_index(whole, NONE, PLAIN))
    assert (used, len(candidates)) == ([], 0)
    none = verify_candidates(candidates, 0.97, take_rows(whole, candidates, 0))
    pd.testing.assert_frame_equal(NO_PAIRS, none, check_dtype=False)


def test_images_are_compared_by_their_ids(views: np.ndarray) -> None:
    a, b = IDS[[3, 6, 1]], IDS[[32, 8, 2]]
    ids = np.concatenate([a, b])
    rows = [take_images(block(views, k, k + 20), ids) for k in (0, 20)]
    assert sum(map(len, rows)) == 6
    assert alike_images(a, b, 0.9, *rows).tolist() == [True, False, False]
